package node

import (
	"errors"
	"fmt"
	"time"

	"repld/internal/kv"
	"repld/internal/server"
	"repld/wal"
)

// sequence is the server.Sequence of the evaluation that holds the sequencer lock.
type sequence struct {
	s     *sequencer
	wrote bool  // a record of this submission is in the log
	bytes int64 // of its records
	err   error // first failure to append; nothing more is written after it
}

// Record implements server.Sequence: one atomic record.
func (b *sequence) Record(now time.Time, fn func(*kv.Txn) error) error {
	if b.err != nil {
		return b.err
	}
	t := b.s.mu.overlay.Begin(now)
	if err := fn(t); err != nil {
		t.Abort()
		return err
	}
	effects := t.Effects()
	if effects == nil {
		t.Abort()
		return nil
	}
	lsn, err := b.append(wal.KindEffects, effects)
	if err != nil {
		t.Abort()
		return err
	}
	t.Commit(lsn)
	return nil
}

func (b *sequence) append(kind wal.Kind, payload []byte) (wal.LSN, error) {
	if full := b.s.full.Load(); full != nil && kind == wal.KindEffects {
		return 0, full // nothing of this record is written; what it frees would only be free after it was written
	}
	lsn, err := b.s.writer.Load().Append(kind, payload)
	switch {
	case errors.Is(err, wal.ErrTooLarge):
		return 0, server.Errorf("ERR", "%v", err)
	case err != nil:
		b.err = server.Errorf("MASTERDOWN", "the log takes no records: %v", err)
		return 0, b.err
	case lsn != b.s.mu.last+1:
		panic(fmt.Sprintf("node: record got lsn %d after %d", lsn, b.s.mu.last))
	}
	b.s.mu.last, b.wrote = lsn, true
	b.bytes += int64(len(payload))
	return lsn, nil
}

// Watch implements server.Sequence.
func (b *sequence) Watch(keys [][]byte, w *server.Watcher) { b.s.watches.Add(keys, w) }
