package coresim

import (
	"repld/failover"
	"repld/wal"
)

// tokenStore is where a token lives: with failover.Advance, the production rule of every store. A node without a shared one keeps it on its disk.
// tokenRecord is what a token holds.
type tokenRecord = failover.Record

type tokenStore struct {
	record failover.Record
}

func (t *tokenStore) compareAndSet(s *Sim, rev uint64, next failover.Record) error {
	rec, err := failover.Advance(t.record, rev, next)
	if err != nil {
		return err
	}
	if s.mutant(ForgetTenures) {
		rec.History, rec.Forgotten = nil, 0
	}
	t.record = rec
	return nil
}

// withToken reads the token and may change it: done gets what was read. With a shared store the answer may be lost, and then it is not known whether
// it was changed.
func (p *proc) withToken(what string, rev uint64, next *failover.Record, done func(failover.Record, error)) {
	s := p.s
	act := func(t *tokenStore) (failover.Record, error) {
		if next == nil {
			return t.record, nil
		}
		s.note(p.n, what, uint64(next.Epoch), rev)
		err := t.compareAndSet(s, rev, *next)
		return t.record, err
	}
	if s.store == nil {
		s.after(s.syncTime(), p, func() { done(act(&p.n.disk.token)) })
		return
	}
	over := false
	end := func(r failover.Record, err error) {
		if !over {
			over = true
			done(r, err)
		}
	}
	s.after(sc/2, p, func() { end(failover.Record{}, errNoAnswer) })
	if s.lost(p.n.id, storeAt) {
		return
	}
	s.after(s.delay(), nil, func() {
		rec, err := act(s.store)
		if !s.lost(storeAt, p.n.id) {
			s.after(s.delay(), p, func() { end(rec, err) })
		}
	})
}

// epochState is what nodes tell each other in passing.
type epochState struct {
	epoch  wal.Epoch
	holder string
	sync   wal.SyncSet
}
