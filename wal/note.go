package wal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
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
	if err := writeFile(d.fs, tmp, b); err != nil {
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
	b, err := readFile(fs, path, maxNote)
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
	return decodeStrict(body, v)
}

// decodeStrict decodes one JSON value and refuses unknown fields and anything behind it.
func decodeStrict(b []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("something follows the JSON value")
	}
	return nil
}

// writeFile creates a file with the bytes and syncs it. The bytes may be changed: a vfs.File is allowed to.
func writeFile(fs vfs.FS, path string, b []byte) error {
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// readFile reads a file of at most limit bytes.
func readFile(fs vfs.FS, path string, limit int64) ([]byte, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("read %s: %w: want at most %d bytes", path, ErrTooLarge, limit)
	}
	return b, nil
}
