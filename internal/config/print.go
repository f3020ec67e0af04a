package config

import (
	"fmt"
	"io/fs"
	"reflect"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// Redacted returns a copy without secrets, fit for logs and answers.
func (c *Config) Redacted() *Config {
	out := *c
	if out.Client.Password != "" {
		out.Client.Password = "(hidden)"
	}
	if out.Client.ACL != "" {
		out.Client.ACL = "(hidden)"
	}
	if out.Sentinel.Password != "" {
		out.Sentinel.Password = "(hidden)"
	}
	return &out
}

// Print returns the settings in force as YAML that Load accepts, each with a comment that says where it came from. Passwords are in
// files of their own and never part of it.
func (c *Config) Print() ([]byte, error) {
	root := &yaml.Node{Kind: yaml.MappingNode}
	for _, f := range fields(c) {
		n := f.node()
		if n == nil || (f.key == "sync.shrink_after" && c.Sync.Policy == PolicyBlock) {
			continue
		}
		into := root
		section, name, nested := strings.Cut(f.key, ".")
		if nested {
			into = child(root, section)
		} else {
			name = f.key
		}
		comment := c.sources[f.key].String()
		if comment == "" {
			comment = "default"
		}
		if n.Kind == yaml.ScalarNode {
			n.LineComment = comment
		}
		key := &yaml.Node{Kind: yaml.ScalarNode, Value: name}
		if n.Kind != yaml.ScalarNode {
			key.HeadComment = comment
		}
		into.Content = append(into.Content, key, n)
	}
	text, err := yaml.Marshal(root)
	if err != nil {
		return nil, fmt.Errorf("print configuration: %w", err)
	}
	return text, nil
}

// child returns the mapping called name in n, appended when it is not there yet.
func child(n *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	m := &yaml.Node{Kind: yaml.MappingNode}
	n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: name}, m)
	return m
}

// node returns the field's value in YAML, nil when it is empty.
func (f field) node() *yaml.Node {
	scalar := func(text, tag string) *yaml.Node {
		return &yaml.Node{Kind: yaml.ScalarNode, Value: text, Tag: tag}
	}
	switch v := f.value.Interface().(type) {
	case time.Duration:
		return scalar(v.String(), "!!str")
	case Size:
		return scalar(v.String(), "")
	case fs.FileMode:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: fmt.Sprintf("%04o", v), Tag: "!!int"}
	case []string:
		if len(v) == 0 {
			return nil
		}
		list := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
		for _, s := range v {
			list.Content = append(list.Content, scalar(s, "!!str"))
		}
		return list
	case []Peer:
		return peersNode(v)
	}
	switch f.value.Kind() {
	case reflect.Bool:
		return scalar(strconv.FormatBool(f.value.Bool()), "!!bool")
	case reflect.Int:
		return scalar(strconv.FormatInt(f.value.Int(), 10), "!!int")
	}
	if f.value.String() == "" {
		return nil
	}
	return scalar(f.value.String(), "!!str")
}

func peersNode(peers []Peer) *yaml.Node {
	if len(peers) == 0 {
		return nil
	}
	list := &yaml.Node{Kind: yaml.SequenceNode}
	for _, p := range peers {
		m := &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
		for _, kv := range [][2]string{{"name", p.Name}, {"addr", p.Addr}, {"client", p.Client}, {"mode", string(p.Mode)}, {"role", string(p.Role)}} {
			if kv[1] != "" {
				m.Content = append(m.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: kv[0]},
					&yaml.Node{Kind: yaml.ScalarNode, Value: kv[1], Tag: "!!str"})
			}
		}
		list.Content = append(list.Content, m)
	}
	return list
}
