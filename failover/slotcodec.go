package failover

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
	"repld/internal/strict"
)

// encodeState refuses what decodeState would refuse, and what does not fit a slot.
func encodeState(s State) ([]byte, error) {
	if err := s.validate(); err != nil {
		return nil, fmt.Errorf("state: %w: %w", ErrInvalid, err)
	}
	doc, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	if len(doc) > slotBytes-boxHeader {
		return nil, fmt.Errorf("state: %w: %d bytes, a slot holds %d", ErrInvalid, len(doc), slotBytes-boxHeader)
	}
	return encodeBox(slotMagic, s.Generation, doc), nil
}

func decodeState(b []byte) (State, error) {
	gen, doc, err := decodeBox(slotMagic, b)
	if err != nil {
		return State{}, err
	}
	var s State
	if err := strict.Decode(doc, &s); err != nil {
		return State{}, fmt.Errorf("%w: %w", errBox, err)
	}
	if s.Generation != gen || gen == 0 {
		return State{}, fmt.Errorf("%w: generation %d inside, %d outside", errBox, s.Generation, gen)
	}
	if err := s.validate(); err != nil {
		return State{}, fmt.Errorf("%w: %w", errBox, err)
	}
	return s, nil
}

func (s *Slots) readSlot(i int) (State, error) {
	b := make([]byte, slotBytes)
	off := int64(i) * slotBytes
	n, err := s.mu.file.ReadAt(b, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return State{}, fmt.Errorf("read slot %d of %s: %w", i, s.path, err)
	}
	st, err := decodeState(b[:n])
	if errors.Is(err, ErrVersion) {
		return State{}, fmt.Errorf("%s at offset %d: %w", s.path, off, err)
	}
	if err != nil {
		return State{}, &CorruptError{File: s.path, Offset: off, Reason: err.Error()}
	}
	return st, nil
}

func writeSlot(f vfs.File, i int, box []byte) error {
	b := append([]byte(nil), box...) // vfs allows WriteAt to scribble on its argument
	if _, err := f.WriteAt(b, int64(i)*slotBytes); err != nil {
		return fmt.Errorf("write slot %d: %w", i, err)
	}
	// Both slots were made whole when the file was created: only what is in them changes, and no journal of a file system has to be waited for.
	if err := f.SyncData(); err != nil {
		return fmt.Errorf("sync slot %d: %w", i, err)
	}
	return nil
}
