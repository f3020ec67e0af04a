package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"repld/internal/admin"
	"repld/internal/events"
	"repld/wal"
)

var _ admin.Journal = adminAPI{}

// Events implements admin.Journal.
func (a adminAPI) Events(seq uint64, limit int) ([]events.Event, <-chan struct{}) {
	return a.events.Since(seq, limit)
}

// History implements admin.Journal. Each node knows from its log which epochs began where, from its epoch file which were granted, and from its journal how
// long its own promotions took; together they know as much as there is.
func (a adminAPI) History(ctx context.Context, local bool) ([]admin.Epoch, error) {
	known := map[wal.Epoch]admin.Epoch{}
	own, err := a.ownHistory()
	if err != nil {
		return nil, err
	}
	merge(known, own)
	if !local {
		ctx, cancel := context.WithTimeout(ctx, statusTimeout)
		defer cancel()
		var all sync.WaitGroup
		answers := make([][]admin.Epoch, len(a.o.Peers))
		for i, p := range a.o.Peers {
			all.Go(func() {
				_ = a.peers.call(ctx, p.Name, peerAdmin+admin.PathHistory+"?local=1", nil, &answers[i]) // who is gone has nothing to add
			})
		}
		all.Wait()
		for _, x := range answers {
			merge(known, x)
		}
	}
	out := make([]admin.Epoch, 0, len(known))
	for _, e := range known {
		out = append(out, e)
	}
	slices.SortFunc(out, func(x, y admin.Epoch) int { return int(int64(x.Epoch) - int64(y.Epoch)) })
	return out, nil
}

// sources of an epoch, from the best.
const (
	fromLog     = "log"
	fromJournal = "journal"
	fromTenure  = "tenure"
)

// merge adds what more is known. What a log says is the history; the others only fill in.
func merge(known map[wal.Epoch]admin.Epoch, more []admin.Epoch) {
	rank := map[string]int{fromLog: 2, fromJournal: 1}
	for _, e := range more {
		have, ok := known[e.Epoch]
		if !ok {
			known[e.Epoch] = e
			continue
		}
		if rank[e.Source] > rank[have.Source] {
			have, e = e, have
		}
		if have.Holder == e.Holder {
			have.Millis = max(have.Millis, e.Millis)
			have.Records = max(have.Records, e.Records)
			if have.Time.IsZero() {
				have.Time = e.Time
			}
			if have.Reason == "" {
				have.Reason = e.Reason
			}
		}
		known[e.Epoch] = have
	}
}

// ownHistory is what this node knows by itself.
func (a adminAPI) ownHistory() ([]admin.Epoch, error) {
	known := map[wal.Epoch]admin.Epoch{}
	logged, err := a.loggedEpochs()
	if err != nil {
		return nil, err
	}
	merge(known, logged)
	merge(known, a.journalEpochs())
	for _, t := range a.fence.State().Tenures {
		merge(known, []admin.Epoch{{Epoch: t.Epoch, Holder: t.Holder, Sync: t.Sync, Source: fromTenure}})
	}
	out := make([]admin.Epoch, 0, len(known))
	for _, e := range known {
		out = append(out, e)
	}
	return out, nil
}

// journalEpochs are this node's own promotions.
func (a adminAPI) journalEpochs() []admin.Epoch {
	var out []admin.Epoch
	all, _ := a.events.Since(0, 0)
	for _, e := range all {
		if e.Kind != events.Role || e.Text("new") != admin.RoleActive {
			continue
		}
		var epoch wal.Epoch
		var took float64
		_, _ = fmt.Sscan(e.Text("epoch"), &epoch) // 0 is dropped below
		_, _ = fmt.Sscan(e.Text("took_ms"), &took)
		if epoch > 0 {
			out = append(out, admin.Epoch{Epoch: epoch, Holder: a.o.Name, Time: e.Time, Reason: e.Text("reason"), Millis: took, Source: fromJournal})
		}
	}
	return out
}

// maxEpochs bounds how many epochs of the log are shown, the newest.
const maxEpochs = 256

// loggedEpochs finds where epochs begin in the log, from the newest back. Epochs only rise along it, so each beginning is found by a binary search.
func (a adminAPI) loggedEpochs() ([]admin.Epoch, error) {
	first, last := a.log.Start().LSN+1, a.log.Durable().LSN
	var out []admin.Epoch
	for end := last; end >= first && end > 0 && len(out) < maxEpochs; {
		e, begin, err := a.epochAt(first, end)
		if errors.Is(err, wal.ErrTrimmed) {
			break // the log's head was cut while we looked
		}
		if err != nil {
			return out, fmt.Errorf("history: %w", err)
		}
		e.Records = uint64(end - begin + 1)
		out = append(out, e)
		end = begin - 1
	}
	return out, nil
}

// epochAt describes the epoch of the record at end and finds its first record in [first, end].
func (a adminAPI) epochAt(first, end wal.LSN) (admin.Epoch, wal.LSN, error) {
	f, err := a.log.FrameAt(end)
	if err != nil {
		return admin.Epoch{}, 0, err
	}
	lo, hi := first, f.First
	for lo < hi { // the first frame of the epoch is the one that holds hi
		mid := lo + (hi-lo)/2
		m, err := a.log.FrameAt(mid)
		if err != nil {
			return admin.Epoch{}, 0, err
		}
		if m.Epoch < f.Epoch {
			lo = m.Last() + 1
		} else {
			hi = max(m.First, first)
		}
		if m.Epoch == f.Epoch {
			f = m
		}
	}
	if f.First != lo {
		if f, err = a.log.FrameAt(lo); err != nil {
			return admin.Epoch{}, 0, err
		}
	}
	e := admin.Epoch{Epoch: f.Epoch, Source: fromLog}
	err = f.Each(func(r wal.Record) error {
		if r.LSN != f.First || r.Kind != wal.KindEpochStart {
			return nil // the beginning of the epoch is not in the log any more
		}
		var s wal.EpochStart
		if err := json.Unmarshal(r.Payload, &s); err != nil {
			return fmt.Errorf("record %d: %w", r.LSN, err)
		}
		e.Holder, e.Reason, e.From, e.Sync, e.LostFrom, e.LostTo = s.Holder, s.Reason, s.Previous, s.Sync, s.LostFrom, s.LostTo
		e.Start, e.Time = r.LSN, f.Time.Round(time.Millisecond)
		return nil
	})
	return e, lo, err
}
