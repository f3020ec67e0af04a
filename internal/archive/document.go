package archive

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
)

// maxDocument bounds a document that is read whole: the manifest of a backup, which takes some 200 bytes a file.
const maxDocument = 64 << 20

// encode writes a document: a line with the SHA-256 of the rest, then JSON. A flipped bit anywhere is found.
func encode(v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	body = append(body, '\n')
	sum := sha256.Sum256(body)
	return append([]byte(hex.EncodeToString(sum[:])+"\n"), body...), nil
}

// decode reads what encode wrote. Errors are ErrDamaged, or the reader's.
func decode(r io.Reader, into any) error {
	b, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err != nil {
		return err
	}
	head, body, ok := bytes.Cut(b, []byte{'\n'})
	sum := sha256.Sum256(body)
	if !ok || len(b) > maxDocument || string(head) != hex.EncodeToString(sum[:]) {
		return fmt.Errorf("%w: its checksum does not match", ErrDamaged)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}
