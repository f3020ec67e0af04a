package raftstore

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"repld/failover"
	"repld/internal/strict"
)

const (
	recordMagic  = "RPJ1" // the last byte is the version
	recordHeader = 24
	maxRecord    = 16 << 20 // bytes of one document
)

// errRecord is why a record is not one.
var errRecord = errors.New("damaged record")

// chain is a place between two records.
type chain struct {
	seq  uint64 // of the record before it
	hash uint64
}

// encodeRecord returns the stored form of the change that follows prev, and the place behind it.
func encodeRecord(prev chain, c change) ([]byte, chain, error) {
	doc, err := json.Marshal(c)
	if err != nil || len(doc) > maxRecord {
		return nil, prev, fmt.Errorf("token journal: change of %d bytes: %w", len(doc), errors.Join(err, failover.ErrInvalid))
	}
	b := make([]byte, recordHeader, recordHeader+len(doc))
	copy(b, recordMagic)
	binary.LittleEndian.PutUint32(b[4:], uint32(len(doc)))
	binary.LittleEndian.PutUint64(b[8:], prev.seq+1)
	b = append(b, doc...)
	next := chain{seq: prev.seq + 1, hash: recordHash(prev.hash, b)}
	binary.LittleEndian.PutUint64(b[16:], next.hash)
	return b, next, nil
}

// decodeRecord decodes the record at the start of b, which must follow prev; the zero chain is the start of a file, whose first record is a state
// with any number. It returns the bytes it has. The error is ErrVersion for an undamaged record of another version.
func decodeRecord(b []byte, prev chain) (int, chain, change, error) {
	bad := func(format string, args ...any) (int, chain, change, error) {
		return 0, prev, change{}, fmt.Errorf("%w: %s", errRecord, fmt.Sprintf(format, args...))
	}
	if len(b) < recordHeader {
		return bad("%d bytes, a header has %d", len(b), recordHeader)
	}
	if string(b[:3]) != recordMagic[:3] {
		return bad("magic %q, expected %q", b[:4], recordMagic)
	}
	n := int64(binary.LittleEndian.Uint32(b[4:]))
	if n > maxRecord || n > int64(len(b)-recordHeader) {
		return bad("length %d in %d bytes", n, len(b)-recordHeader)
	}
	b = b[:recordHeader+n]
	if got, want := binary.LittleEndian.Uint64(b[16:]), recordHash(prev.hash, b); got != want {
		return bad("hash %016x, expected %016x", got, want)
	}
	if string(b[:4]) != recordMagic {
		return 0, prev, change{}, fmt.Errorf("token journal: %w: found %q, know %q", failover.ErrVersion, b[:4], recordMagic)
	}
	next := chain{seq: binary.LittleEndian.Uint64(b[8:]), hash: binary.LittleEndian.Uint64(b[16:])}
	var c change
	if err := strict.Decode(b[recordHeader:], &c); err != nil {
		return bad("document: %v", err)
	}
	if prev == (chain{}) {
		if c.State == nil || next.seq == 0 {
			return bad("the file begins with change %d and no state", next.seq)
		}
	} else if next.seq != prev.seq+1 {
		return bad("change %d after %d", next.seq, prev.seq)
	}
	return len(b), next, c, nil
}

// recordHash covers everything but the hash itself, and what came before.
func recordHash(prev uint64, b []byte) uint64 {
	d := xxhash.NewWithSeed(prev)
	_, _ = d.Write(b[:16]) // a hash never fails to write
	_, _ = d.Write(b[recordHeader:])
	return d.Sum64()
}
