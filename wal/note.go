package wal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"repld/internal/durable"
	"repld/internal/strict"
)

// Notes are small files beside the segments: one line with a magic and a checksum, then JSON. They are written under
// another name, synced and renamed, so they are whole or absent.
const (
	noteMagic  = "repld-wal-note 1 "
	noteClean  = "clean"  // cleanNote: the log was closed in order
	noteIntent = "intent" // intentNote: a cut or reset is under way
	noteDoubt  = "doubt"  // Cut: a tail was cut that may have been durable
	maxNote    = 64 << 10
)

// cleanNote is the clean-stop mark: nothing follows End.
type cleanNote struct {
	End Position `json:"end"`
	Seq uint64   `json:"seq"`
}

// intentNote makes a cut or reset, which change several files, atomic: whoever finds it does it again.
type intentNote struct {
	Op  string   `json:"op"`  // intentCut or intentReset
	To  Position `json:"to"`  // the log ends here afterwards
	Seq uint64   `json:"seq"` // cut: the segment that holds To; reset: the new segment
}

const (
	intentCut   = "cut"
	intentReset = "reset"
)

// writeNote makes a note durable, name and all.
func (d *directory) writeNote(name string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode note %s: %w", name, err)
	}
	b := fmt.Appendf(nil, "%s%016x\n%s\n", noteMagic, xxhash.Sum64(body), body)
	tmp := d.join(name + tmpSuffix)
	if err := durable.WriteFile(d.fs, tmp, b); err != nil {
		return err
	}
	if err := d.fs.Rename(tmp, d.join(name)); err != nil {
		return fmt.Errorf("rename %s: %w", tmp, err)
	}
	return d.sync()
}

// removeNote removes a note durably; a missing one is no error.
func (d *directory) removeNote(name string) error {
	if err := d.fs.Remove(d.join(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", d.join(name), err)
	}
	return d.sync()
}

// readNote decodes a note into v. It reports false if there is none; a damaged note is a *CorruptError.
func readNote(fs vfs.FS, dir, name string, v any) (bool, error) {
	path := fs.PathJoin(dir, name)
	b, err := durable.ReadFile(fs, path, maxNote)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := decodeNote(b, v); err != nil {
		return false, &CorruptError{File: path, Expected: "a note with a good checksum", Found: reason(err)}
	}
	return true, nil
}

func decodeNote(b []byte, v any) error {
	line, body, ok := bytes.Cut(b, []byte("\n"))
	if !ok || !bytes.HasSuffix(body, []byte("\n")) {
		return fmt.Errorf("%d bytes without a first and a last line", len(b))
	}
	body = body[:len(body)-1]
	if want := fmt.Sprintf("%s%016x", noteMagic, xxhash.Sum64(body)); string(line) != want {
		return fmt.Errorf("first line %q, not %q", line, want)
	}
	return strict.Decode(body, v)
}
