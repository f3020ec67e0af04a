package kv

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"repld/wal"
)

const (
	batchHeader = 12 // of Pebble: sequence number u64 (0), number of operations u32
	// splitDivisor bounds a gathered batch to this part of a memtable: a batch above half of one is kept
	// by Pebble until it is flushed, and its operations cost a memtable more than their bytes.
	splitDivisor = 16
	// largeDivisor: a batch of this part of a memtable may be one that Pebble keeps: there an operation of a few bytes takes a hundred.
	largeDivisor = 64
	// keepBuffer is the largest batch buffer that is kept for the next call.
	keepBuffer = 8 << 20
)

// gathered is what one Pebble commit will hold.
type gathered struct {
	n      uint32 // operations
	end    wal.Position
	keys   int64
	counts bool
	marks  []string
	recs   uint64
}

// Apply applies committed frames in order, in one Pebble commit (in several, each at a frame's end, after a frame with
// marks and when the frames are large). Frames at or below Applied are skipped; a frame that does not continue it is ErrGap or ErrDiverged
// and a malformed record ErrBadEffects: then nothing of that frame and of those behind it is applied. On return the
// effects are visible, not durable: DurablyApplied tells. After OnFatal a call may never return.
func (s *Store) Apply(frames []*wal.Frame) error {
	if err := s.enter(); err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	defer s.gate.leave()
	s.apply.Lock()
	defer s.apply.Unlock()

	g := gathered{end: s.Applied(), keys: s.keys.Load()}
	s.apply.buf = append(s.apply.buf[:0], make([]byte, batchHeader)...)
	for _, f := range frames {
		skip, err := follows(g.end, f)
		if skip {
			continue
		}
		size := len(s.apply.buf)
		was := g
		if err == nil {
			err = s.gather(&g, f)
		}
		if err != nil {
			// The frames before the bad one are whole: they are applied, whatever becomes of this one.
			s.apply.buf = s.apply.buf[:size]
			return errors.Join(fmt.Errorf("apply: %w", err), s.commit(&was))
		}
		if len(g.marks) > 0 || len(s.apply.buf) >= int(s.o.MemTableBytes/splitDivisor) {
			if err := s.commit(&g); err != nil {
				return err
			}
		}
	}
	return s.commit(&g)
}

// follows decides whether f is next after the position at, or was applied before.
func follows(at wal.Position, f *wal.Frame) (skip bool, err error) {
	end := f.End()
	switch {
	case end.LSN < at.LSN:
		return true, nil
	case end.LSN == at.LSN && end.Hash == at.Hash:
		return true, nil
	case f.First <= at.LSN:
		return false, &SequenceError{Applied: at, First: f.First, Prev: f.Prev, Kind: ErrDiverged}
	case f.First != at.LSN+1:
		return false, &SequenceError{Applied: at, First: f.First, Prev: f.Prev, Kind: ErrGap}
	case f.Prev != at.Hash || f.Epoch < at.Epoch:
		return false, &SequenceError{Applied: at, First: f.First, Prev: f.Prev, Kind: ErrDiverged}
	}
	return false, nil
}

// gather appends f's operations to the batch.
func (s *Store) gather(g *gathered, f *wal.Frame) error {
	err := f.Each(func(r wal.Record) error {
		g.recs++
		switch r.Kind {
		case wal.KindEffects:
			p, err := parseEffects(r.Payload)
			if err != nil {
				return fmt.Errorf("record %d: %w", r.LSN, err)
			}
			s.apply.buf = append(s.apply.buf, p.ops...)
			g.n += p.n
			if p.counts {
				g.keys, g.counts = p.count, true
			}
		case wal.KindEpochStart:
		case wal.KindMark:
			g.marks = append(g.marks, string(r.Payload))
		default:
			return fmt.Errorf("record %d: %w: %v", r.LSN, ErrVersion, r.Kind)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("frame at %d: %w", f.First, err)
	}
	g.end = f.End()
	return nil
}

// commit makes what was gathered visible, in one Pebble commit together with the position, and starts the next.
func (s *Store) commit(g *gathered) error {
	if g.end == s.Applied() {
		return nil
	}
	if g.counts {
		s.put(g, countRow, binary.BigEndian.AppendUint64(nil, uint64(g.keys)))
	}
	s.put(g, positionRow, appendPosition(nil, g.end))
	if err := s.commitBatch(g.n); err != nil {
		return fmt.Errorf("apply up to %s: %w", g.end, err)
	}
	end := g.end
	s.keys.Store(g.keys)
	s.applied.Store(&end)
	s.records.Add(g.recs)
	s.commits.Add(1)
	err := s.emit(end, g.marks)
	*g = gathered{end: end, keys: g.keys}
	return err
}

func (s *Store) put(g *gathered, row string, value []byte) {
	b := append(s.apply.buf, kindSet, byte(len(row)))
	b = append(b, row...)
	b = append(b, byte(len(value)))
	s.apply.buf = append(b, value...)
	g.n++
}

// commitBatch hands the buffer to Pebble and takes it back, unless Pebble keeps it.
func (s *Store) commitBatch(n uint32) error {
	buf, batch := s.apply.buf, s.apply.batch
	binary.LittleEndian.PutUint32(buf[8:], n)
	if err := batch.SetRepr(buf); err != nil {
		return err
	}
	if len(buf) >= int(s.o.MemTableBytes/largeDivisor) {
		// Pebble may put it beside the memtables and flush it, and them, before it is visible: see flush. The snapshot keeps what is.
		defer s.db.NewSnapshot().Close()
	}
	t := s.health.guard("commit", s.o.StallLimit)
	err := s.db.Apply(batch, pebble.NoSync)
	t.Stop()
	if batch.Len() <= batchHeader || cap(buf) > keepBuffer {
		// A batch above half a memtable is flushed from our buffer: it is Pebble's now.
		buf = nil
	}
	s.apply.batch = new(pebble.Batch)
	s.apply.buf = append(buf[:0], make([]byte, batchHeader)...)
	return err
}

// emit hands a snapshot to OnMark for each mark of the frame that was just applied.
func (s *Store) emit(at wal.Position, marks []string) error {
	if s.o.OnMark == nil {
		return nil
	}
	for _, id := range marks {
		sn, err := s.Snapshot()
		if err != nil {
			return fmt.Errorf("mark %q at %s: %w", id, at, err)
		}
		s.o.OnMark(Mark{Position: at, ID: id, Snapshot: sn})
	}
	return nil
}
