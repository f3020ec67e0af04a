package config

import (
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// setText decodes the text of a flag, a variable, a default or a scalar of the file.
func (f field) setText(text string) error {
	if len(f.oneOf) > 0 && !slices.Contains(f.oneOf, text) {
		return fmt.Errorf("%q is not one of: %s", text, strings.Join(f.oneOf, ", "))
	}
	switch f.value.Type() {
	case typeDuration:
		return f.setDuration(text)
	case typeSize:
		return f.setSize(text)
	case typeMode:
		return f.setMode(text)
	case typePeers:
		return f.setPeersText(text)
	case typeNames:
		f.value.Set(reflect.ValueOf(splitList(text)))
		return nil
	}
	switch f.value.Kind() {
	case reflect.Bool:
		if text != "true" && text != "false" {
			return fmt.Errorf("%q is not true or false", text)
		}
		f.value.SetBool(text == "true")
	case reflect.Int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", text)
		}
		f.value.SetInt(int64(n))
	default:
		f.value.SetString(text)
	}
	return nil
}

func (f field) setDuration(text string) error {
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return fmt.Errorf("%q is not a duration like 200ms", text)
	case d < 0:
		return fmt.Errorf("duration %s is negative", text)
	case d == 0 && !f.zero:
		return fmt.Errorf("duration has to be more than zero")
	}
	f.value.SetInt(int64(d))
	return nil
}

func (f field) setSize(text string) error {
	s, err := ParseSize(text)
	switch {
	case err != nil:
		return err
	case s == 0 && !f.zero:
		return fmt.Errorf("size has to be more than zero")
	}
	f.value.SetInt(int64(s))
	return nil
}

func (f field) setMode(text string) error {
	n, err := strconv.ParseUint(strings.TrimPrefix(text, "0o"), 8, 32)
	if err != nil || n > 0o777 || !strings.HasPrefix(text, "0") {
		return fmt.Errorf("%q is not octal permissions like 0660", text)
	}
	f.value.Set(reflect.ValueOf(fs.FileMode(n)))
	return nil
}

// setPeersText reads a=host:port,b=host:port.
func (f field) setPeersText(text string) error {
	peers := []Peer{}
	for _, item := range splitList(text) {
		name, addr, ok := strings.Cut(item, "=")
		if !ok {
			return fmt.Errorf("%q is not name=host:port", item)
		}
		peers = append(peers, Peer{Name: name, Addr: addr})
	}
	f.value.Set(reflect.ValueOf(peers))
	return nil
}

func splitList(text string) []string {
	out := []string{}
	for _, s := range strings.Split(text, ",") {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// setNode decodes a setting of the file, whose YAML type has to fit: `node: 1` is an error although 1 could be a name.
func (f field) setNode(n *yaml.Node, file *file, p *problems) {
	switch f.value.Type() {
	case typePeers:
		f.setPeersNode(n, file, p)
		return
	case typeNames:
		f.setNamesNode(n, file, p)
		return
	}
	if n.Kind != yaml.ScalarNode || !slices.Contains(f.tags(), n.Tag) {
		p.add(f.key, file.at(n), "has to be %s, found %s", f.kind(), describe(n))
		return
	}
	if err := f.setText(n.Value); err != nil {
		p.add(f.key, file.at(n), "%v", err)
	}
}

// tags are the YAML types that the field takes.
func (f field) tags() []string {
	switch f.value.Type() {
	case typeSize, typeMode:
		return []string{"!!str", "!!int"}
	}
	switch f.value.Kind() {
	case reflect.Bool:
		return []string{"!!bool"}
	case reflect.Int:
		return []string{"!!int"}
	}
	return []string{"!!str"}
}

func (f field) setNamesNode(n *yaml.Node, file *file, p *problems) {
	if n.Kind != yaml.SequenceNode {
		p.add(f.key, file.at(n), "has to be %s, found %s", f.kind(), describe(n))
		return
	}
	names := []string{}
	for _, item := range n.Content {
		if item.Kind != yaml.ScalarNode || item.Tag != "!!str" {
			p.add(f.key, file.at(item), "has to be %s, found %s", f.kind(), describe(item))
			continue
		}
		names = append(names, item.Value)
	}
	f.value.Set(reflect.ValueOf(names))
}

func (f field) setPeersNode(n *yaml.Node, file *file, p *problems) {
	if n.Kind != yaml.SequenceNode {
		p.add(f.key, file.at(n), "has to be %s, found %s", f.kind(), describe(n))
		return
	}
	peers := []Peer{}
	for _, item := range n.Content {
		if item.Kind != yaml.MappingNode {
			p.add(f.key, file.at(item), "has to be %s, found %s", f.kind(), describe(item))
			continue
		}
		peers = append(peers, f.peer(item, file, p))
	}
	f.value.Set(reflect.ValueOf(peers))
}

func (f field) peer(n *yaml.Node, file *file, p *problems) Peer {
	var peer Peer
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		key := f.key + "." + k.Value
		into := map[string]*string{"name": &peer.Name, "addr": &peer.Addr, "client": &peer.Client, "heartbeat": &peer.Heartbeat, "mode": (*string)(&peer.Mode), "role": (*string)(&peer.Role)}[k.Value]
		switch {
		case into == nil:
			p.add(key, file.at(k), "unknown key, a peer has: name, addr, client, heartbeat, mode, role")
		case seen[k.Value]:
			p.add(key, file.at(k), "set twice in one peer")
		case v.Kind != yaml.ScalarNode || v.Tag != "!!str":
			p.add(key, file.at(v), "has to be text, found %s", describe(v))
		default:
			*into = v.Value
		}
		seen[k.Value] = true
	}
	if peer.Mode != "" && peer.Mode != ModeHot && peer.Mode != ModeLagged {
		p.add(f.key+".mode", file.at(n), "%q is not one of: hot, lagged", string(peer.Mode))
	}
	if peer.Role != "" && peer.Role != RoleData && peer.Role != RoleWitness {
		p.add(f.key+".role", file.at(n), "%q is not one of: data, witness", string(peer.Role))
	}
	return peer
}
