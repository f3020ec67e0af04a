// Package strict decodes JSON that was written by this program, or by a newer one that this one does not understand.
package strict

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// errMore: what follows the first value would be ignored.
var errMore = errors.New("there is more than one JSON value")

// Decode decodes exactly one JSON value without fields that v does not have: a field that is not known is a promise that would not be kept. White space may follow it. Sizes are
// the caller's to limit.
func Decode(doc []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(doc))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errMore
	}
	return nil
}
