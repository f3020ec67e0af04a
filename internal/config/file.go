package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// maxFileBytes bounds what is parsed.
const maxFileBytes = 1 << 20

// file is the parsed YAML: each setting's node, for its value, its place and its exact text.
type file struct {
	name  string
	nodes map[string]*yaml.Node // leaf settings by key
	keys  map[string]int        // line of each key, mappings too
}

// readFile parses the file at path and reports unknown and repeated keys to p. An unreadable file is an error of its own.
func readFile(path string, known []field, p *problems) (*file, error) {
	r, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return parseFile(path, text, known, p), nil
}

func parseFile(name string, text []byte, known []field, p *problems) *file {
	f := &file{name: name, nodes: map[string]*yaml.Node{}, keys: map[string]int{}}
	if len(text) > maxFileBytes {
		p.add("", source{kind: "file", name: name}, "larger than %d bytes", maxFileBytes)
		return f
	}
	dec := yaml.NewDecoder(strings.NewReader(string(text)))
	var root yaml.Node
	if err := dec.Decode(&root); err != nil {
		if !errors.Is(err, io.EOF) { // an empty file is an empty mapping
			p.add("", source{kind: "file", name: name}, "not YAML: %v", err)
		}
		return f
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		p.add("", source{kind: "file", name: name}, "more than one YAML document")
	}
	f.walk(root.Content[0], "", known, p)
	return f
}

// values returns the file's settings for viper, nested as in the file.
func (f *file) values() map[string]any {
	out := map[string]any{}
	for key, n := range f.nodes {
		var v any
		if n.Decode(&v) != nil {
			v = n.Value // reported when the setting is decoded
		}
		section, name, nested := strings.Cut(key, ".")
		if !nested {
			out[key] = v
			continue
		}
		inner, ok := out[section].(map[string]any)
		if !ok {
			inner = map[string]any{}
			out[section] = inner
		}
		inner[name] = v
	}
	return out
}

// walk records the places of all keys below n and reports those that no field has.
func (f *file) walk(n *yaml.Node, prefix string, known []field, p *problems) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return
	}
	if n.Kind != yaml.MappingNode {
		p.add(strings.TrimSuffix(prefix, "."), f.at(n), "has to be a mapping of settings, found %s", describe(n))
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		key := prefix + k.Value
		if line, twice := f.keys[key]; twice {
			p.add(key, f.at(k), "set twice, first on line %d", line)
			continue
		}
		f.keys[key] = k.Line
		switch {
		case hasField(known, key):
			f.nodes[key] = v
		case slices.ContainsFunc(known, func(x field) bool { return strings.HasPrefix(x.key, key+".") }):
			f.walk(v, key+".", known, p)
		default:
			p.add(key, f.at(k), "unknown key%s", suggest(key, known))
		}
	}
}

func (f *file) at(n *yaml.Node) source { return source{kind: "file", name: f.name, line: n.Line} }

func hasField(known []field, key string) bool {
	return slices.ContainsFunc(known, func(x field) bool { return x.key == key })
}

// describe names a node's type and value for messages.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	switch n.Tag {
	case "!!null":
		return "nothing"
	case "!!str":
		return fmt.Sprintf("the text %q", n.Value)
	case "!!bool":
		return "the boolean " + n.Value
	}
	return "the number " + n.Value
}

// suggest returns ", did you mean x?" for the known key next to key.
func suggest(key string, known []field) string {
	best, at := "", 4 // more than three changes are another word
	for _, f := range known {
		section, name, nested := strings.Cut(f.key, ".")
		candidates := map[string]string{f.key: f.key, section: section}
		if nested {
			candidates[name] = f.key
		}
		for text, says := range candidates {
			if d := distance(key, text); d < at || (d == at && says < best) {
				best, at = says, d
			}
		}
	}
	if best == "" {
		return ""
	}
	return ", did you mean " + best + "?"
}

// distance is the number of single-character changes between a and b (Levenshtein).
func distance(a, b string) int {
	if len(a) > 64 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := diagonal
			if a[i-1] != b[j-1] {
				change++
			}
			diagonal = row[j]
			row[j] = min(change, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}
