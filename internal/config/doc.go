// Package config turns one annotated YAML file, the REPLD_… environment and command line flags into a checked Config.
//
// A setting is looked up in this order; the first that names it wins:
//
//	flag                  --sync-k 1
//	environment           REPLD_SYNC_K=1
//	file                  sync: {k: 1}
//	default               the `default` tag of the field in Config
//
// The fields of Config and their tags are the only list of settings: flags, environment names, the check for unknown keys,
// `repld print-config` and the decoder are all derived from it.
//
// What it guarantees: Load returns either a Config in which every field is usable as it stands, or an *Error that lists everything
// that is wrong at once, each with the key and its place (file:line, environment variable or flag). A key that nobody knows,
// a value of the wrong type, and settings that contradict each other are errors, never warnings, because a
// misspelled sync policy would be found out only when a node dies.
//
// What it assumes: names of nodes are values, never keys of a mapping, because viper lower-cases keys. The package knows nothing of
// the node itself: cmd/repld maps a Config to the options of a node.
package config
