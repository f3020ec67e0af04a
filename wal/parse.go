package wal

import (
	"fmt"
	"strconv"
	"strings"
)

// ParsePosition reads what Position.String writes: epoch/LSN/hash, the hash as 16 hexadecimal digits.
func ParsePosition(text string) (Position, error) {
	bad := func() (Position, error) {
		return Position{}, fmt.Errorf("%q is not a position: want EPOCH/LSN/HASH, like 3/1042/9f86d081884c7d65", text)
	}
	parts := strings.Split(text, "/")
	if len(parts) != 3 || len(parts[2]) != 16 {
		return bad()
	}
	epoch, err1 := strconv.ParseUint(parts[0], 10, 64)
	lsn, err2 := strconv.ParseUint(parts[1], 10, 64)
	hash, err3 := strconv.ParseUint(parts[2], 16, 64)
	if err1 != nil || err2 != nil || err3 != nil {
		return bad()
	}
	return Position{Epoch: Epoch(epoch), LSN: LSN(lsn), Hash: Hash(hash)}, nil
}
