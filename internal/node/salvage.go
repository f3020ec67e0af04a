package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cespare/xxhash/v2"

	"repld/internal/admin"
	"repld/internal/kv"
	"repld/internal/server"
	"repld/wal"
)

// Bounds of a salvage: what it keeps in memory, and what it writes as one record.
const (
	salvageMemory = 32 << 20
	salvageKeys   = 256
	salvageBytes  = 1 << 20
	salvageTries  = 50
)

// salvage is one look at a suffix that the history does not contain (R9), on the active.
//
// Effects are absolute, so of all effects on a key only the last one counts: the net effect. It is written again as an ordinary write, if
// nothing has touched the key in the new history since the two parted; otherwise it is a conflict, listed and left. Keys are worked on in parts by
// their hash, so that memory is bounded whatever the size of the suffix; each part reads suffix and history anew.
type salvage struct {
	*group
	req    admin.SalvageRequest
	except *predicate
	result admin.SalvageResult
	parts  uint64
	now    time.Time
}

// netEffect is the last effect on a key, and what was found out about the key.
type netEffect struct {
	key      string
	value    []byte
	expireAt int64
	del      bool
	lsn      wal.LSN
	touched  bool
	verdict  string
}

// Salvage implements admin.Handler. Whoever is asked passes it on to the active.
func (a adminAPI) Salvage(ctx context.Context, req admin.SalvageRequest, emit func(admin.Event)) (admin.SalvageResult, error) {
	if req.Node == "" {
		req.Node = a.o.Name
	}
	if !a.active() {
		active := a.otherHolder()
		if active == "" {
			return admin.SalvageResult{}, &admin.Error{Code: admin.CodeNoActive, Message: "there is no active to write to"}
		}
		end, err := a.forward(ctx, active, admin.PathSalvage, req, emit)
		return value(end.Salvage), err
	}
	s := &salvage{group: a.group, req: req, now: time.Now()}
	s.result = admin.SalvageResult{Node: req.Node, Name: req.Name, Applied: req.Apply}
	if req.Keys == "" {
		s.req.Keys = "*"
	}
	s.req.Limit = min(max(req.Limit, 0), 1000)
	if req.Limit == 0 {
		s.req.Limit = 100
	}
	if req.Except != "" {
		p, err := parsePredicate(req.Except)
		if err != nil {
			return s.result, err
		}
		s.except = &p
	}
	return s.result, s.run(ctx, emit)
}

func (s *salvage) run(ctx context.Context, emit func(admin.Event)) error {
	raw, err := s.measure(ctx)
	if err != nil {
		return err
	}
	from := s.result.From
	if at, err := s.log.PositionAt(from.LSN); errors.Is(err, wal.ErrTrimmed) {
		return &admin.Error{Code: admin.CodeRefused, Message: fmt.Sprintf("the log of %s begins behind LSN %d, where the histories part: whether a key was changed since cannot be told; export the suffix and look at it by hand",
			s.o.Name, from.LSN)}
	} else if err != nil {
		return err
	} else if at != from {
		return usage("suffix %s begins at %s, which is not in the history of %s", s.req.Name, from, s.o.Name)
	}
	s.parts = uint64(raw/salvageMemory) + 1
	for part := range s.parts {
		if err := s.part(ctx, part); err != nil {
			return err
		}
		if s.parts > 1 {
			emit(admin.Event{Message: fmt.Sprintf("part %d of %d", part+1, s.parts), Percent: 100 * float64(part+1) / float64(s.parts)})
		}
	}
	return nil
}

// measure reads the suffix once: it is whole, and so large.
func (s *salvage) measure(ctx context.Context) (raw int64, err error) {
	x, err := s.openSuffix(ctx, s.req.Node, s.req.Name)
	if err != nil {
		return 0, err
	}
	defer x.close()
	s.result.From, s.result.To, s.result.Records = x.about.From, x.about.To, x.about.Records
	for {
		f, err := x.next()
		if errors.Is(err, io.EOF) {
			return raw, nil
		}
		if err != nil {
			return raw, err
		}
		raw += int64(f.Raw) + 64*int64(f.Count)
	}
}

// part works on the keys of one hash class.
func (s *salvage) part(ctx context.Context, part uint64) error {
	keys, err := s.collect(ctx, part)
	if err != nil {
		return err
	}
	r, err := s.log.NewReader(s.result.From.LSN)
	if err != nil {
		return err
	}
	defer r.Close()
	seen := &history{reader: r, from: s.result.From, keys: keys}
	if err := seen.upTo(s.log.End().LSN); err != nil {
		return err
	}
	var batch []*netEffect
	size := 0
	for _, k := range keys {
		batch = append(batch, k)
		if size += len(k.key) + len(k.value); len(batch) >= salvageKeys || size >= salvageBytes {
			if err := s.write(ctx, seen, batch); err != nil {
				return err
			}
			batch, size = batch[:0], 0
		}
	}
	if err := s.write(ctx, seen, batch); err != nil {
		return err
	}
	s.report(keys)
	return nil
}

// collect reads the net effects of a part's keys.
func (s *salvage) collect(ctx context.Context, part uint64) (map[string]*netEffect, error) {
	x, err := s.openSuffix(ctx, s.req.Node, s.req.Name)
	if err != nil {
		return nil, err
	}
	defer x.close()
	keys := map[string]*netEffect{}
	for {
		f, err := x.next()
		if errors.Is(err, io.EOF) {
			return keys, nil
		}
		if err != nil {
			return nil, err
		}
		if err := f.Each(func(r wal.Record) error { return s.record(keys, part, r) }); err != nil {
			return nil, err
		}
	}
}

func (s *salvage) record(keys map[string]*netEffect, part uint64, r wal.Record) error {
	if r.Kind != wal.KindEffects {
		return nil
	}
	return kv.WalkEffects(r.Payload, func(e kv.Effect) error {
		switch {
		case e.Row != kv.RowKey:
		case s.except != nil && s.except.effect(e):
			if part == 0 {
				s.result.Excepted++
			}
		case e.Op == kv.OpClear:
			if part == 0 {
				s.result.Clears++
			}
			clear(keys) // what was written before it is gone
		case xxhash.Sum64(e.Key)%s.parts != part || !server.Match([]byte(s.req.Keys), e.Key):
		default:
			s.result.Effects++
			keys[string(e.Key)] = &netEffect{key: string(e.Key), value: bytes.Clone(e.Value), expireAt: e.ExpireAt, del: e.Op == kv.OpDelete, lsn: r.LSN}
		}
		return nil
	})
}

// write decides on a batch of keys, and writes those that nothing has touched as one record. Between the look at the history and the write others may write too: a
// watcher, set under the sequencer's lock before the look, finds that out.
func (s *salvage) write(ctx context.Context, seen *history, batch []*netEffect) error {
	if len(batch) == 0 {
		return nil
	}
	names := make([][]byte, len(batch))
	for i, k := range batch {
		names[i] = []byte(k.key)
	}
	for range salvageTries {
		w := new(server.Watcher)
		w.Expect()
		done, err := s.attempt(ctx, seen, batch, names, w)
		s.seq.watches.Remove(w)
		if done || err != nil {
			return err
		}
	}
	return fmt.Errorf("keys like %q change all the time: nothing of this batch was written", batch[0].key)
}

func (s *salvage) attempt(ctx context.Context, seen *history, batch []*netEffect, names [][]byte, w *server.Watcher) (bool, error) {
	at, err := s.submit(ctx, func(seq server.Sequence) error {
		seq.Watch(names, w)
		return nil
	})
	if err != nil {
		return false, err
	}
	if err := seen.upTo(at); err != nil {
		return false, err
	}
	stale := false
	_, err = s.submit(ctx, func(seq server.Sequence) error {
		if stale = w.Dirty(); stale {
			return nil
		}
		return seq.Record(s.now, func(t *kv.Txn) error {
			for _, k := range batch {
				if err := s.decide(t, k); err != nil {
					return err
				}
			}
			return nil
		})
	})
	return !stale && err == nil, err
}

// decide gives a key its verdict and, if it is to be written again and that is what was asked for, writes it.
func (s *salvage) decide(t *kv.Txn, k *netEffect) error {
	e, ok, err := t.Get([]byte(k.key))
	if err != nil {
		return err
	}
	expired := k.expireAt != 0 && k.expireAt <= s.now.UnixMilli()
	switch {
	case k.del && !ok, !k.del && ok && bytes.Equal(e.Value, k.value) && e.ExpireAt == k.expireAt:
		k.verdict = admin.SalvageSame
	case k.touched:
		k.verdict = admin.SalvageConflict
	case !k.del && expired:
		k.verdict = admin.SalvageExpired
	default:
		k.verdict = admin.SalvageApply
	}
	if k.verdict != admin.SalvageApply || !s.req.Apply {
		return nil
	}
	if k.del {
		_, err := t.Delete([]byte(k.key))
		return err
	}
	return t.Set([]byte(k.key), k.value, k.expireAt)
}

// submit evaluates fn in its turn and waits for its outcome.
func (s *salvage) submit(ctx context.Context, fn func(server.Sequence) error) (wal.LSN, error) {
	type outcome struct {
		lsn wal.LSN
		err error
	}
	done := make(chan outcome, 1)
	s.seq.submit(ctx, fn, func(lsn wal.LSN, err error) { done <- outcome{lsn, err} })
	select {
	case o := <-done:
		return o.lsn, o.err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

func (s *salvage) report(keys map[string]*netEffect) {
	r := &s.result
	list := func(conflicts bool) {
		for _, k := range keys {
			if (k.verdict == admin.SalvageConflict) != conflicts || len(r.Items) >= s.req.Limit {
				continue
			}
			op := "set"
			if k.del {
				op = "del"
			}
			r.Items = append(r.Items, admin.SalvageItem{Key: k.key[:min(len(k.key), 256)], Op: op, Bytes: len(k.value), LSN: k.lsn, Verdict: k.verdict})
		}
	}
	list(true)
	list(false)
	for _, k := range keys {
		r.Keys++
		switch k.verdict {
		case admin.SalvageApply:
			r.Apply++
		case admin.SalvageConflict:
			r.Conflicts++
		case admin.SalvageSame:
			r.Same++
		case admin.SalvageExpired:
			r.Expired++
		}
	}
}

// history marks the keys that were touched since the two histories parted.
type history struct {
	reader  *wal.Reader
	from    wal.Position
	keys    map[string]*netEffect
	carried uint64 // records to come that a cut wrote again: they are the old history's own
}

// upTo reads the log up to lsn.
func (h *history) upTo(lsn wal.LSN) error {
	for h.reader.Position().LSN < lsn {
		f, err := h.reader.TryNext()
		if err != nil {
			return err
		}
		if f == nil {
			return fmt.Errorf("the log ends at LSN %d, not at %d", h.reader.Position().LSN, lsn)
		}
		if err := f.Each(h.record); err != nil {
			return err
		}
	}
	return nil
}

func (h *history) record(r wal.Record) error {
	switch {
	case r.Kind == wal.KindEpochStart:
		var start wal.EpochStart
		if err := json.Unmarshal(r.Payload, &start); err != nil {
			return fmt.Errorf("epoch start at LSN %d: %w", r.LSN, err)
		}
		if start.Previous == h.from {
			h.carried = start.Carried
		}
		return nil
	case r.Kind != wal.KindEffects:
		return nil
	case h.carried > 0:
		h.carried--
		return nil
	}
	return kv.WalkEffects(r.Payload, func(e kv.Effect) error {
		if e.Row != kv.RowKey {
			return nil
		}
		if e.Op == kv.OpClear {
			for _, k := range h.keys {
				k.touched = true
			}
		} else if k := h.keys[string(e.Key)]; k != nil {
			k.touched = true
		}
		return nil
	})
}
