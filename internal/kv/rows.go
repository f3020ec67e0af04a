package kv

import (
	"encoding/binary"
	"fmt"

	"repld/wal"
)

// Row is the class of a row: the first byte of its Pebble key.
type Row uint8

const (
	// RowSystem rows describe the state itself.
	RowSystem Row = 0x00
	// RowKey rows say what a user key holds.
	RowKey Row = 0x01
	// RowCollection rows hold elements of collections.
	RowCollection Row = 0x02
	// RowExpiry rows are the expiry index.
	RowExpiry Row = 0x03
	// RowOnce rows are the results of writes that clients named by an id.
	RowOnce Row = 0x04
	// RowOnceExpiry rows say when a RowOnce row may go.
	RowOnceExpiry Row = 0x05
)

// String returns the name that dumps use.
func (r Row) String() string {
	switch r {
	case RowSystem:
		return "system"
	case RowKey:
		return "key"
	case RowCollection:
		return "collection"
	case RowExpiry:
		return "expiry"
	case RowOnce:
		return "once"
	case RowOnceExpiry:
		return "once-expiry"
	}
	return fmt.Sprintf("row-%02x", uint8(r))
}

const (
	positionRow = "\x00p"
	countRow    = "\x00n"
	clearFrom   = "\x01" // a Clear removes all rows of users …
	clearTo     = "\x04" // … up to here, exclusively

	positionVersion = 1
	positionLen     = 1 + 3*8
	countLen        = 8
	expiryHead      = 1 + 8 // class and expireAt
)

func appendPosition(b []byte, p wal.Position) []byte {
	b = append(b, positionVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(p.Epoch))
	b = binary.BigEndian.AppendUint64(b, uint64(p.LSN))
	return binary.BigEndian.AppendUint64(b, uint64(p.Hash))
}

func decodePosition(b []byte) (wal.Position, error) {
	if len(b) > 0 && b[0] != positionVersion {
		return wal.Position{}, fmt.Errorf("applied position: %w: version %d, known %d", ErrVersion, b[0], positionVersion)
	}
	if len(b) != positionLen {
		return wal.Position{}, fmt.Errorf("applied position: %w: %d bytes, want %d", ErrCorrupt, len(b), positionLen)
	}
	return wal.Position{
		Epoch: wal.Epoch(binary.BigEndian.Uint64(b[1:])),
		LSN:   wal.LSN(binary.BigEndian.Uint64(b[9:])),
		Hash:  wal.Hash(binary.BigEndian.Uint64(b[17:])),
	}, nil
}

func decodeCount(b []byte) (int64, error) {
	if len(b) != countLen || b[0]&0x80 != 0 {
		return 0, fmt.Errorf("number of keys: %w: % x", ErrCorrupt, b)
	}
	return int64(binary.BigEndian.Uint64(b)), nil
}

// appendKeyRow appends the Pebble key of user key's meta row.
func appendKeyRow(b, key []byte) []byte {
	b = append(b, byte(RowKey))
	return append(b, key...)
}

// appendExpiryRow appends the Pebble key of an expiry index row.
func appendExpiryRow(b []byte, expireAt int64, key []byte) []byte {
	b = append(b, byte(RowExpiry))
	b = binary.BigEndian.AppendUint64(b, uint64(expireAt))
	return append(b, key...)
}

// splitExpiryRow is the inverse of appendExpiryRow; row has at least expiryHead bytes.
func splitExpiryRow(row []byte) (expireAt int64, key []byte) {
	return int64(binary.BigEndian.Uint64(row[1:])), row[expiryHead:]
}

// metaLen is the encoded length of a meta row's value.
func metaLen(value []byte, expireAt int64) int {
	return 1 + uvarintLen(uint64(expireAt)) + len(value)
}

// appendMeta appends a meta row's value.
func appendMeta(b []byte, typ Type, value []byte, expireAt int64) []byte {
	b = append(b, byte(typ))
	b = binary.AppendUvarint(b, uint64(expireAt))
	return append(b, value...)
}

// decodeMeta splits a meta row's value; Entry.Value aliases b, its capacity clipped so that an append copies.
func decodeMeta(b []byte) (Entry, error) {
	if len(b) < 2 {
		return Entry{}, fmt.Errorf("meta row: %w: %d bytes", ErrCorrupt, len(b))
	}
	if Type(b[0]) != TypeString {
		return Entry{}, fmt.Errorf("meta row: %w: head %02x", ErrVersion, b[0])
	}
	at, n := binary.Uvarint(b[1:])
	if n <= 0 || at > 1<<63-1 {
		return Entry{}, fmt.Errorf("meta row: %w: bad expiry", ErrCorrupt)
	}
	v := b[1+n:]
	return Entry{Type: TypeString, Value: v[:len(v):len(v)], ExpireAt: int64(at)}, nil
}

func uvarintLen(v uint64) int {
	n := 1
	for v >= 0x80 {
		v >>= 7
		n++
	}
	return n
}
