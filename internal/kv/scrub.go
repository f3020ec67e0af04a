package kv

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
)

// Scrub reads every block of every table of the open state and checks its checksum, whether or not anybody would read it. pace is called before each table with
// its size, and may wait. Tables that a compaction removes meanwhile are passed over. The error is ErrCorrupt for the first damaged table, pace's or the context's.
func (s *Store) Scrub(ctx context.Context, pace func(context.Context, int) error) error {
	if err := s.enter(); err != nil {
		return fmt.Errorf("scrub: %w", err)
	}
	v := verifier{ctx: ctx, fs: s.o.FS, dir: s.o.Dir, db: s.db}
	tables, err := v.tables()
	s.gate.leave() // the files are read apart from Pebble: a long scrub holds nobody up
	if err != nil {
		return fmt.Errorf("scrub: %w", err)
	}
	for _, t := range tables {
		if err := pace(ctx, int(t.size)); err != nil {
			return err
		}
		switch err := v.table(t.name); {
		case err == nil, errors.Is(err, iofs.ErrNotExist):
		case ctx.Err() != nil:
			return ctx.Err()
		default:
			return readError("scrub "+t.name, err)
		}
	}
	return nil
}
