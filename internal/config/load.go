package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

const envPrefix = "REPLD"

// LoadOptions say where settings come from besides the environment.
type LoadOptions struct {
	File  string         // YAML file; empty: none
	Flags *pflag.FlagSet // a set that Flags filled; nil: no flags
}

// Flags adds a flag for each setting to set, named after its key: --sync-k for sync.k.
func Flags(set *pflag.FlagSet) {
	for _, f := range fields(&Config{}) {
		set.String(f.flagName(), f.def, f.doc)
		flag := set.Lookup(f.flagName())
		flag.DefValue = "" // the text of the setting names it where it is not obvious
		if f.def != "" && f.def != "false" && f.def != "auto" && f.def != "0" && f.def != "0s" {
			flag.Usage += " (default " + f.def + ")"
		}
		if f.kind() == "true or false" {
			flag.NoOptDefVal = "true"
		}
	}
}

// Load reads, merges and checks the settings. Its error is an *Error when the settings are at fault. Paths of the file are relative to the file's
// folder, all others to the working directory.
func Load(o LoadOptions) (*Config, error) {
	c := &Config{sources: map[string]source{}}
	all := fields(c)
	p := &problems{unread: map[string]bool{}}
	var in *file
	if o.File != "" {
		var err error
		if in, err = readFile(o.File, all, p); err != nil {
			return nil, err
		}
	}
	v, err := merged(all, in, o.Flags)
	if err != nil {
		return nil, err
	}
	for _, f := range all {
		from := origin(f, in, o.Flags)
		c.sources[f.key] = from
		c.set(f, v, from, in, p)
	}
	c.complete()
	c.check(p)
	c.Warnings = append(unknownEnv(all), c.Warnings...)
	if err := p.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// merged lets viper put flag, environment, file and default in their order.
func merged(all []field, in *file, flags *pflag.FlagSet) (*viper.Viper, error) {
	v := viper.New()
	v.SetEnvPrefix(envPrefix)
	v.SetEnvKeyReplacer(strings.NewReplacer(".", "_"))
	v.AllowEmptyEnv(true)
	v.AutomaticEnv()
	if in != nil {
		if err := v.MergeConfigMap(in.values()); err != nil {
			return nil, fmt.Errorf("read configuration %s: %w", in.name, err)
		}
	}
	for _, f := range all {
		v.SetDefault(f.key, f.def)
		if flags == nil {
			continue
		}
		if flag := flags.Lookup(f.flagName()); flag != nil {
			if err := v.BindPFlag(f.key, flag); err != nil {
				return nil, fmt.Errorf("bind flag %s: %w", flag.Name, err)
			}
		}
	}
	return v, nil
}

// origin says which of the sources viper took f from.
func origin(f field, in *file, flags *pflag.FlagSet) source {
	if flags != nil {
		if flag := flags.Lookup(f.flagName()); flag != nil && flag.Changed {
			return source{kind: "flag", name: flag.Name}
		}
	}
	if _, ok := os.LookupEnv(f.envName()); ok {
		return source{kind: "env", name: f.envName()}
	}
	if in != nil && in.nodes[f.key] != nil {
		return in.at(in.nodes[f.key])
	}
	return source{kind: "default"}
}

// set decodes f. A value of the file is decoded from its node, because viper has lost its place and exact text by then.
func (c *Config) set(f field, v *viper.Viper, from source, in *file, p *problems) {
	before := len(p.list)
	defer func() { p.unread[f.key] = len(p.list) > before }()
	switch from.kind {
	case "file":
		f.setNode(in.nodes[f.key], in, p)
	case "default":
		if f.def == "" || f.def == "auto" {
			return
		}
		fallthrough
	default:
		if err := f.setText(v.GetString(f.key)); err != nil {
			p.add(f.key, from, "%v", err)
			return
		}
	}
	if f.path && f.value.String() != "" {
		f.value.SetString(c.absolute(f.value.String(), from))
	}
}

func (c *Config) absolute(path string, from source) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	if from.kind == "file" {
		path = filepath.Join(filepath.Dir(from.name), path)
	}
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path // the working directory is gone: the kernel will resolve it, or not
}

// unknownEnv names REPLD_ variables that set nothing. They are warnings, because a container platform makes up variables of its own
// (a Kubernetes service called repld yields REPLD_SERVICE_HOST).
func unknownEnv(all []field) []string {
	known := []string{"REPLD_CONFIG", "REPLD_ADMIN_SOCKET"}
	for _, f := range all {
		known = append(known, f.envName())
	}
	var out []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, envPrefix+"_") && !slices.Contains(known, name) {
			out = append(out, "environment variable "+name+" sets nothing")
		}
	}
	slices.Sort(out)
	return out
}
