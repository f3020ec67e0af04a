package failover

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"
)

// boxHeader is the size of a box before its document. A box is how this package stores a small JSON document; doc.go
// draws it.
const boxHeader = 24

// boxMagic tells the kinds of box apart, so that a token file copied over an epoch file is not read as one.
type boxMagic [4]byte

var (
	slotMagic  = boxMagic{'R', 'P', 'E', '1'}
	tokenMagic = boxMagic{'R', 'P', 'T', '1'}
)

// errBox is the reason part of a CorruptError or the cause below ErrVersion.
var errBox = errors.New("damaged")

// encodeBox returns the stored form of doc.
func encodeBox(magic boxMagic, number uint64, doc []byte) []byte {
	b := make([]byte, boxHeader, boxHeader+len(doc))
	copy(b, magic[:])
	binary.LittleEndian.PutUint32(b[4:], uint32(len(doc)))
	binary.LittleEndian.PutUint64(b[8:], number)
	b = append(b, doc...)
	binary.LittleEndian.PutUint64(b[16:], boxHash(b, len(doc)))
	return b
}

// decodeBox returns number and document (aliasing b) of a box at the start of b. Trailing bytes are ignored, because
// a slot is larger than its box. The error is ErrVersion for this kind in another version, else errBox with why. The
// hash is checked before the version, so that a rotten version byte is taken for damage; later versions keep this header.
func decodeBox(magic boxMagic, b []byte) (number uint64, doc []byte, err error) {
	if len(b) < boxHeader {
		return 0, nil, fmt.Errorf("%w: %d bytes, header needs %d", errBox, len(b), boxHeader)
	}
	found := boxMagic(b[:4])
	if [3]byte(found[:3]) != [3]byte(magic[:3]) {
		return 0, nil, fmt.Errorf("%w: magic %q, expected %q", errBox, found[:], magic[:])
	}
	n := int64(binary.LittleEndian.Uint32(b[4:]))
	if n > int64(len(b)-boxHeader) {
		return 0, nil, fmt.Errorf("%w: length %d in %d bytes", errBox, n, len(b)-boxHeader)
	}
	want, got := binary.LittleEndian.Uint64(b[16:]), boxHash(b, int(n))
	if want != got {
		return 0, nil, fmt.Errorf("%w: hash %016x, expected %016x", errBox, got, want)
	}
	if found != magic {
		return 0, nil, fmt.Errorf("%w: found %q, know %q", ErrVersion, found[:], magic[:])
	}
	return binary.LittleEndian.Uint64(b[8:]), b[boxHeader : boxHeader+n], nil
}

func boxHash(b []byte, n int) uint64 {
	d := xxhash.New()
	_, _ = d.Write(b[:16]) // a hash never fails to write
	_, _ = d.Write(b[boxHeader : boxHeader+n])
	return d.Sum64()
}
