package kv

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs/atomicfs"
)

// What a state's files are, and what a damaged byte in each means:
//
//	NNNNNN.sst                     rows. Every block has a checksum, and all are read.
//	MANIFEST-NNNNNN                which tables there are. Pebble takes a record that it cannot read for the end, which would make it open an older state, or an empty one, without a
//	                               word; so all of it has to be readable here.
//	marker.…                       empty; the name counts.
//	OPTIONS-NNNNNN, NNNNNN.log     not part of the state: settings in force when it was opened, as text; Pebble's own log, which is off. LOCK is empty.
//
// The copies that leave a node (snapshots, checkpoints that are kept, backups) have a manifest with a hash of every file, these too.

// notState reports whether a file's content is no part of the state.
func notState(name string) bool {
	return strings.HasPrefix(name, "OPTIONS-") || strings.HasSuffix(name, ".log") || name == "LOCK"
}

// files checks what is not a table.
func (v *verifier) files() error {
	names, err := v.fs.List(v.dir)
	if err != nil {
		return fmt.Errorf("list %s: %w", v.dir, err)
	}
	for _, n := range names {
		if notState(n) && n != "LOCK" {
			v.report.Ignored = append(v.report.Ignored, n)
		}
	}
	slices.Sort(v.report.Ignored)
	name, err := atomicfs.ReadMarker(v.fs, v.dir, "manifest")
	if err != nil {
		return fmt.Errorf("find the MANIFEST of %s: %w", v.dir, err)
	}
	if err := v.manifest(name); err != nil {
		v.problem("file %s: %v", name, err)
	}
	return nil
}

// manifest reads a MANIFEST to its very end. Zeros behind the last record are room that was taken in advance.
func (v *verifier) manifest(name string) error {
	f, err := v.fs.Open(v.fs.PathJoin(v.dir, name))
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	r := record.NewReader(f, 0)
	good := int64(0)
	for {
		rec, err := r.Next()
		if err == nil {
			_, err = io.Copy(io.Discard, rec)
		}
		if err == nil {
			good = r.Offset()
			continue
		}
		if good == info.Size() && errors.Is(err, io.EOF) {
			return nil
		}
		rest := make([]byte, min(info.Size()-good, 1<<20))
		for at := good; at < info.Size(); {
			n, rerr := f.ReadAt(rest, at)
			for i, b := range rest[:n] {
				if b != 0 {
					return fmt.Errorf("cannot be read behind byte %d of %d (byte %d): %w. Pebble would take what is before for all; after a power failure, a start of the node settles it", good, info.Size(),
						at+int64(i), err)
				}
			}
			if at += int64(n); n == 0 {
				return errors.Join(rerr, io.ErrUnexpectedEOF)
			}
		}
		return nil
	}
}
