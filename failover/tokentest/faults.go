package tokentest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"repld/failover"
	"repld/wal"
)

// World is one token with what it rests on, seen through several stores, and the faults that its kind of store knows.
type World interface {
	// Store is the i-th store as it is now, nil while it does not run.
	Store(i int) failover.Store
	// Cut has the i-th store reach nothing any more: its storage, etcd, or the other voters. Whether it is told so is up to the kind.
	Cut(i int)
	// Heal undoes every Cut. What was on its way may still arrive.
	Heal()
	// Crash kills everything at once, with the loss of what was not synced, and starts it again: with other stores.
	Crash()
}

// WorldFactory makes an empty token with n stores. It registers the end with t.Cleanup.
type WorldFactory func(t *testing.T, n int) World

// RunFaults holds that faults can make a store say that it does not know, in time (R12), and never anything that is not so: one holder an epoch (R2), what was won is
// there afterwards (R3), and whoever asks after a win sees it.
func RunFaults(t *testing.T, make WorldFactory) {
	t.Run("cut off", func(t *testing.T) { testCutOff(t, make(t, 3)) })
	t.Run("crash", func(t *testing.T) { testCrash(t, make(t, 3)) })
	t.Run("watch", func(t *testing.T) { testWatchOverFault(t, make(t, 3)) })
	t.Run("chaos", func(t *testing.T) { testChaos(t, make(t, 3)) })
}

// impatient is how long a caller waits for a store that may be cut off.
const impatient = 200 * time.Millisecond

// inTime calls do with little time and fails when it takes much longer.
func inTime(t *testing.T, what string, do func(ctx context.Context) error) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), impatient)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- do(ctx) }()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case err := <-done:
		return err
	case <-late.C:
		t.Fatalf("%s: no answer %s after the caller's time was over (R12)", what, patience)
		return nil
	}
}

// eventually takes the next epoch through a store as soon as that works.
func eventually(t *testing.T, w World, i int, holder string) (won failover.Record) {
	t.Helper()
	until(t, func() error {
		s := w.Store(i)
		if s == nil {
			return fmt.Errorf("store %d does not run", i)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		cur, err := s.Load(ctx)
		if err == nil {
			won, err = s.CompareAndSet(ctx, cur.Rev, Next(cur.Epoch+1, holder))
		}
		return err
	})
	return won
}

// loads waits until the store answers, and fails when that is older than want.
func loads(t *testing.T, w World, i int, want failover.Record) {
	t.Helper()
	var got failover.Record
	until(t, func() (err error) {
		s := w.Store(i)
		if s == nil {
			return fmt.Errorf("store %d does not run", i)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		got, err = s.Load(ctx)
		return err
	})
	if got.Rev < want.Rev || got.Epoch < want.Epoch {
		t.Fatalf("store %d loads revision %d, epoch %d by %s after revision %d, epoch %d by %s was won", i, got.Rev, got.Epoch, got.Holder, want.Rev, want.Epoch, want.Holder)
	}
}

func until(t *testing.T, holds func() error) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(6 * patience); ; <-tick.C {
		err := holds()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// testCutOff: a store that reaches nothing says neither yes nor "another one holds it"; the others go on, and afterwards it knows what they did.
//
// Faults: W15 (each kind of token store cut off)
func testCutOff(t *testing.T, w World) {
	first := eventually(t, w, 0, "a")
	w.Cut(0)
	err := inTime(t, "load", func(ctx context.Context) error {
		_, err := w.Store(0).Load(ctx)
		return err
	})
	if err == nil {
		t.Error("a store that is cut off loads")
	}
	err = inTime(t, "set", func(ctx context.Context) error {
		_, err := w.Store(0).CompareAndSet(ctx, first.Rev, Next(first.Epoch+1, "lost"))
		return err
	})
	if err == nil || errors.Is(err, failover.ErrConflict) {
		t.Errorf("a store that is cut off answers: %v", err)
	}
	won := eventually(t, w, 1, "b")
	w.Heal()
	loads(t, w, 0, won)
	loads(t, w, 2, eventually(t, w, 0, "a"))
}

// testCrash: what was won outlives the loss of all processes and of what they had not synced, again and again.
//
// Faults: P1, D22 (each kind of token store killed with everything)
func testCrash(t *testing.T, w World) {
	var won failover.Record
	for round := range 3 {
		for i := range 3 {
			won = eventually(t, w, (round+i)%3, fmt.Sprint("n", round))
		}
		w.Crash()
		loads(t, w, round, won)
	}
	if won.Rev < 9 || uint64(won.Epoch) < 9 {
		t.Fatalf("after nine wins: %+v", won)
	}
}

// testWatchOverFault: a watch does not miss what was decided while its store was cut off.
func testWatchOverFault(t *testing.T, w World) {
	first := eventually(t, w, 0, "a")
	ctx, cancel := context.WithTimeout(t.Context(), 6*patience)
	defer cancel()
	seen := make(chan failover.Record, 1)
	failed := make(chan error, 1)
	go func() {
		for { // a watch may end with an error while its store is cut off; who watches asks again
			rec, err := w.Store(0).Watch(ctx, first.Rev)
			if err == nil {
				seen <- rec
				return
			}
			if ctx.Err() != nil {
				failed <- err
				return
			}
		}
	}()
	w.Cut(0)
	won := eventually(t, w, 1, "b")
	w.Heal()
	select {
	case rec := <-seen:
		if rec.Rev <= first.Rev || rec.Rev == won.Rev && rec.Holder != won.Holder {
			t.Fatalf("watched %+v after %+v, %+v was won", rec, first, won)
		}
	case err := <-failed:
		t.Fatalf("the watch saw nothing: %v", err)
	}
}

// testChaos has callers raise the epoch through all stores while they are cut off, healed and crashed, and checks all that they were told.
//
// Faults: H7, W15 (callers of each kind of token store under cuts and crashes)
func testChaos(t *testing.T, w World) {
	rounds := 6
	if testing.Short() {
		rounds = 3
	}
	if os.Getenv("NIGHTLY") != "" {
		rounds = 60
	}
	const callers = 4
	book := &ledger{holders: map[wal.Epoch]string{}, won: map[uint64]string{}}
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for n := range callers {
		all.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(n)))
			for ctx.Err() == nil {
				s := w.Store(rnd.IntN(3))
				told := s != nil && book.call(ctx, s, fmt.Sprint("n", n))
				book.tried()
				if !told {
					pause(ctx)
				}
			}
		})
	}
	end := func() { stop(); all.Wait() }
	defer end()
	rnd := rand.New(rand.NewPCG(2, 0))
	for round := range rounds {
		book.more(t, 2, 0)
		switch round % 3 {
		case 2:
			w.Crash()
		default:
			w.Cut(rnd.IntN(3))
			if rnd.IntN(2) == 0 {
				w.Cut(rnd.IntN(3))
			}
			book.more(t, 0, 2*callers)
			w.Heal()
		}
	}
	book.more(t, 5, 0)
	end()
	for i := range 3 {
		loads(t, w, i, book.newest())
	}
	if wrong := book.verdict(); wrong != "" {
		t.Fatal(wrong)
	}
	t.Logf("%d wins in %d tries", len(book.won), book.tries)
}

// pause keeps a caller that is refused at once from taking the time of those who have something to do.
func pause(ctx context.Context) {
	t := time.NewTimer(20 * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// ledger is what callers were told.
type ledger struct {
	mu      sync.Mutex
	tries   int
	floor   failover.Record      // the newest that somebody was told of: whoever asks from now on must see it
	holders map[wal.Epoch]string // as anybody was told
	won     map[uint64]string    // by revision
	wrong   string
}

// call tries to take the next epoch for who, and reports whether the store told anything.
func (l *ledger) call(ctx context.Context, s failover.Store, who string) bool {
	ctx, cancel := context.WithTimeout(ctx, impatient)
	defer cancel()
	floor := l.newest()
	cur, err := s.Load(ctx)
	if err != nil {
		return false
	}
	l.saw("load", floor, cur)
	floor = l.newest()
	rec, err := s.CompareAndSet(ctx, cur.Rev, Next(cur.Epoch+1, who))
	switch {
	case err == nil:
		l.saw("win", floor, rec)
		l.win(rec, who)
	case errors.Is(err, failover.ErrConflict):
		l.saw("conflict", floor, rec)
	default:
		return false
	}
	return true
}

// saw notes an answer, and that it is not older than what was known when it was asked for.
func (l *ledger) saw(what string, floor, rec failover.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if rec.Rev < floor.Rev || rec.Epoch < floor.Epoch {
		l.blameLocked("a %s answered revision %d, epoch %d; revision %d, epoch %d was told before it was asked for", what, rec.Rev, rec.Epoch, floor.Rev, floor.Epoch)
	}
	if rec.Epoch > 0 {
		if other, ok := l.holders[rec.Epoch]; ok && other != rec.Holder {
			l.blameLocked("epoch %d is held by %s and by %s", rec.Epoch, other, rec.Holder)
		}
		l.holders[rec.Epoch] = rec.Holder
	}
	if rec.Rev > l.floor.Rev {
		l.floor = rec
	}
}

func (l *ledger) win(rec failover.Record, who string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if other, ok := l.won[rec.Rev]; ok || rec.Holder != who {
		l.blameLocked("revision %d was won by %s, and by %q; it is held by %s", rec.Rev, who, other, rec.Holder)
	}
	l.won[rec.Rev] = who
}

func (l *ledger) blameLocked(format string, args ...any) {
	if l.wrong == "" {
		l.wrong = fmt.Sprintf(format, args...)
	}
}

func (l *ledger) verdict() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.wrong
}

func (l *ledger) newest() failover.Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.floor
}

func (l *ledger) tried() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tries++
}

// more waits for so many more wins and tries.
func (l *ledger) more(t *testing.T, wins, tries int) {
	t.Helper()
	l.mu.Lock()
	haveWins, haveTries := len(l.won), l.tries
	l.mu.Unlock()
	until(t, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.wrong != "" {
			t.Fatal(l.wrong)
		}
		if len(l.won)-haveWins < wins || l.tries-haveTries < tries {
			return fmt.Errorf("%d wins and %d tries, want %d and %d more than %d and %d", len(l.won), l.tries, wins, tries, haveWins, haveTries)
		}
		return nil
	})
}
