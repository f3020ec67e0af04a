// Package golden keeps what this version writes to disk, and opens it from now on: the format promise.
//
// 1.0/ holds, for each format, what `go test ./test/golden -run TestWrite -write` made once with the version named in 1.0/expected.json:
//
//	node/      the data directory of a node: identity, epoch slots, token slots, log, state
//	snapshot/  a snapshot with its manifest
//	archive/   an archive with one backup and the log
//
// A later version must open all of it and find what expected.json says. A directory is never changed; a version that writes a new format adds a directory of its own.
package golden
