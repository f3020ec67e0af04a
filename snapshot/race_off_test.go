//go:build !race

package snapshot_test

const eager = false
