package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Words that mean nothing are refused with what is wrong before a node is asked (there is none here: exit 1 would be its absence), and nothing is made or changed.
func TestNonsense(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	nowhere := filepath.Join(dir, "nowhere")
	for _, tc := range []struct {
		line, says string
		code       int
	}{
		{"promote b --before=", "--before is empty", exitUsage},
		{"promote b --to-time=", "--to-time is empty", exitUsage},
		{"promote b --to-lsn 0", "the first record is 1", exitUsage},
		{"promote b --to-lsn -3", "invalid argument", exitUsage},
		{"promote b --before FROB", "want 'KIND PATTERN'", exitUsage},
		{"promote b --before DEL", "names no key pattern", exitUsage},
		{"promote b --to-lsn 5 --before CLEAR", "give one of them", exitUsage},
		{"promote b --after 7", "say where --before looks", exitUsage},
		{"salvage apply x --except=", "--except is empty", exitUsage},
		{"salvage apply x --keys=", "--keys is empty", exitUsage},
		{"salvage apply", "accepts 1 arg", exitUsage},
		{"restore " + nowhere + " --from= --of shop", "--from is empty", exitUsage},
		{"restore " + nowhere + " --from file:///x --of shop --as shop --node a --latest", "another cluster name", exitUsage},
		{"restore " + nowhere + " --from file:///x --of shop --as y --node a", "to which moment", exitUsage},
		{"restore " + nowhere + " --from file://" + nowhere + " --of shop --as y --node a --latest", "there is no archive", exitError},
		{"backup list --from file://" + nowhere + " --of shop", "there is no archive", exitError},
		{"backup check --from ftp://x --of shop", "want file:///path or s3://", exitError},
		{"backup expire --keep 0 --from file:///x --of shop", "at least 1", exitUsage},
		{"backup frobnicate", "unknown command", exitUsage},
		{"reseed b --only", "needs --from-archive", exitUsage},
		{"reseed b c", "at most 1 arg", exitUsage},
		{"verify --rate fast", "not a size", exitUsage},
		{"receipt check 1/2", "not a position", exitUsage},
		{"drill a b", "at most 1 arg", exitUsage},
		{"hold a b", "at most 1 arg", exitUsage},
	} {
		_, said, code := replctl(t, append(strings.Fields(tc.line), "--socket", filepath.Join(dir, "none"))...)
		if code != tc.code || !strings.Contains(said, tc.says) {
			t.Errorf("%s: exit %d, want %d\n%s\nwant %q", tc.line, code, tc.code, said, tc.says)
		}
		if strings.HasPrefix(tc.line, "restore") {
			_ = os.RemoveAll(nowhere) // its lock
		}
		if _, err := os.Stat(nowhere); err == nil {
			t.Fatalf("%s made %s", tc.line, nowhere)
		}
	}
}
