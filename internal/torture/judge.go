package torture

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"repld/internal/admin"
	"repld/test/history"
	"repld/test/invariant"
	"repld/wal"
)

// porcupineLimit bounds the judgement of one key.
const porcupineLimit = 10 * time.Second

// judge ends the load and holds everything that every scenario has to hold (see the package comment). The nodes must run, unhurt, and one of them be the active.
func (p *play) judge() error {
	for _, l := range p.loads {
		l.stop()
	}
	if err := p.caughtUp(); err != nil {
		return err
	}
	if err := errors.Join(p.readBack(), p.verify()); err != nil {
		return err
	}
	if err := p.fleet.stop(); err != nil {
		return err
	}
	dirs := map[string]string{}
	for _, n := range p.fleet.nodes {
		dirs[n.name] = n.data
	}
	whole, err := history.Stitch(dirs)
	if err != nil {
		return err
	}
	errs := []error{p.twoActives(whole)}
	for _, l := range p.loads {
		errs = append(errs, p.histories(l, whole), invariants(l, whole))
	}
	return errors.Join(errs...)
}

// twoActives holds that no two nodes committed in overlapping time (R2), as the clients of all loads together saw it: those that followed the active, and those that stayed.
func (p *play) twoActives(whole *history.Log) error {
	var txs []*history.Tx
	for _, l := range p.loads {
		txs = append(txs, l.order.All()...)
	}
	r := p.tenures.Check(whole, txs)
	p.log.Info("no two actives at a time", "acked", r.Placed, "epochs", r.Epochs, "before_the_log", r.Before, "violations", len(r.Bad))
	var errs []error
	for _, bad := range r.Bad {
		errs = append(errs, errors.New(bad))
	}
	return errors.Join(errs...)
}

// readBack reads every key of the ledgers from the active.
func (p *play) readBack() error {
	var errs []error
	for _, l := range p.loads {
		loss, err := l.ledger.Check(func(keys []string) ([]any, error) { return p.active.redis.MGet(p.ctx, keys...).Result() })
		p.row.Lost += len(loss.Lost)
		if err != nil {
			errs = append(errs, err)
		}
		if n := len(loss.Lost); n > 0 {
			errs = append(errs, fmt.Errorf("%d of %d acked writes lost (R1): %s", n, loss.Acked, few(loss.Lost)))
		}
		if n := len(loss.Ghosts); n > 0 {
			errs = append(errs, fmt.Errorf("%d writes were refused and are there (R13): %s", n, few(loss.Ghosts)))
		}
	}
	return errors.Join(errs...)
}

func few(list []string) string { return strings.Join(list[:min(5, len(list))], "; ") }

// verify has the cluster compare its digests, as replctl verify does.
func (p *play) verify() error {
	if len(p.fleet.order) == 1 {
		return nil
	}
	ctx, cancel := context.WithTimeout(p.ctx, 2*time.Minute)
	defer cancel()
	v, err := p.active.admin.Verify(ctx, admin.VerifyRequest{WaitSeconds: 60}, nil)
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	if !v.OK {
		return fmt.Errorf("verify: the copies differ: %v %+v", v.Notes, v.Nodes)
	}
	return nil
}

// histories judges registers and transactions.
func (p *play) histories(l *load, whole *history.Log) error {
	var errs []error
	v := l.registers.Check(porcupineLimit)
	p.row.Checked += v.Ops
	for _, bad := range v.Bad {
		errs = append(errs, fmt.Errorf("not linearizable: %s", bad))
	}
	if len(v.Undecided) > 0 {
		errs = append(errs, fmt.Errorf("histories of %d keys could not be judged in %v each: %s", len(v.Undecided), porcupineLimit, few(v.Undecided)))
	}
	r := l.order.Check(whole)
	p.row.Checked += r.Replayed
	for _, bad := range r.Bad {
		errs = append(errs, errors.New(bad))
	}
	if r.Before > 0 {
		p.note("%d transactions are before the beginning of the log (%v) and were not replayed", r.Before, whole.Start)
	}
	return errors.Join(errs...)
}

// invariants tells the checker that all layers share what the clients saw and the log says.
func invariants(l *load, whole *history.Log) error {
	if whole.Start.LSN > 0 {
		return nil // the checker follows a group from its first record on
	}
	c, log := invariant.New(), stitched{whole}
	for i := 0; i < len(whole.Records); {
		e := whole.Records[i].Epoch
		from := whole.Records[i].LSN - 1
		for i < len(whole.Records) && whole.Records[i].Epoch == e {
			i++
		}
		c.Committed(whole.Holders[e], e, log, from, whole.Records[i-1].LSN)
	}
	for _, t := range l.order.All() {
		if t.Outcome != history.OK || !t.Own {
			continue
		}
		e := whole.EpochOf(t.LSN)
		if holder := whole.Holders[e]; holder != t.Where {
			c.Fail("R2", "%s acked %s as LSN %d, which is of epoch %d of %q", t.Where, t.Token, t.LSN, e, holder)
		}
		c.Acked(t.Where, e, t.LSN, number(t.Token))
	}
	return c.Err()
}

// stitched is the log as the checker reads it.
type stitched struct{ *history.Log }

func (s stitched) Start() wal.Position { return s.Log.Start }

func (s stitched) PositionAt(lsn wal.LSN) (wal.Position, error) {
	at := s.Log.Start
	for _, f := range s.Log.Frames {
		if f.End.LSN > lsn {
			break
		}
		at = f.End
	}
	return at, nil
}

func (s stitched) Frames(after, to wal.LSN) (frames []invariant.Frame) {
	for _, f := range s.Log.Frames {
		if f.First <= after || f.End.LSN > to {
			continue
		}
		x := invariant.Frame{Prev: f.Prev, First: f.First, End: f.End}
		for lsn := f.First; lsn <= f.End.LSN; lsn++ {
			x.Records = append(x.Records, numberOf(s.Log.Records[lsn-1]))
		}
		frames = append(frames, x)
	}
	return frames
}

// numberOf stands for the content of a record: that of a transaction's token; 0 for other records.
func numberOf(r history.Record) uint64 {
	for _, e := range r.Effects {
		if token, _, ok := strings.Cut(e.Value, "|"); ok {
			return number(token)
		}
	}
	return 0
}

func number(token string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(token))
	return h.Sum64()
}
