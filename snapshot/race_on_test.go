//go:build race

package snapshot_test

// eager: with the race detector Pebble checks its invariants and compacts right after a flush, so a checkpoint's files are soon not the state's any more.
const eager = true
