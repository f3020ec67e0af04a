package config

import (
	"io/fs"
	"reflect"
	"strings"
	"time"
)

// field is one setting: where it lives in a Config, and what its tags say.
type field struct {
	key   string // as in the file, with dots: sync.k
	value reflect.Value
	def   string
	doc   string
	oneOf []string
	path  bool // made absolute
	zero  bool // 0 is allowed
}

var (
	typeDuration = reflect.TypeFor[time.Duration]()
	typeSize     = reflect.TypeFor[Size]()
	typeMode     = reflect.TypeFor[fs.FileMode]()
	typePeers    = reflect.TypeFor[[]Peer]()
	typeNames    = reflect.TypeFor[[]string]()
)

// fields lists the settings of c in the order of the struct.
func fields(c *Config) []field { return appendFields(nil, "", reflect.ValueOf(c).Elem()) }

func appendFields(out []field, prefix string, v reflect.Value) []field {
	for i := range v.NumField() {
		t := v.Type().Field(i)
		key := t.Tag.Get("key")
		if key == "" || key == "-" {
			continue
		}
		if t.Type.Kind() == reflect.Struct {
			out = appendFields(out, prefix+key+".", v.Field(i))
			continue
		}
		out = append(out, field{
			key: prefix + key, value: v.Field(i), def: t.Tag.Get("default"), doc: t.Tag.Get("doc"),
			oneOf: strings.Fields(t.Tag.Get("oneof")), path: t.Tag.Get("kind") == "path", zero: t.Tag.Get("zero") == "ok",
		})
	}
	return out
}

// kind names what the file has to hold for the field, for messages.
func (f field) kind() string {
	switch f.value.Type() {
	case typeDuration:
		return "a duration like 200ms"
	case typeSize:
		return "a size like 64MiB"
	case typeMode:
		return "octal permissions like 0660"
	case typePeers:
		return "a list of {name, addr}"
	case typeNames:
		return "a list of names"
	}
	switch f.value.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a whole number"
	}
	return "text"
}

func (f field) flagName() string {
	return strings.NewReplacer(".", "-", "_", "-").Replace(f.key)
}

func (f field) envName() string {
	return envPrefix + "_" + strings.ToUpper(strings.ReplaceAll(f.key, ".", "_"))
}
