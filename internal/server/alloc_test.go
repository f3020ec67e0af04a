package server

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"repld/internal/kv"
	"repld/wal"
)

// hotBackend evaluates over a state in memory and keeps nothing, so that only the session's own work is measured.
type hotBackend struct {
	*fakeBackend
	view hotView
	seq  hotSequence
}

type hotView struct{ value []byte }

func (v *hotView) Get([]byte) (kv.Entry, bool, error) {
	return kv.Entry{Type: kv.TypeString, Value: v.value}, true, nil
}
func (v *hotView) Exists([]byte) (bool, error)               { return true, nil }
func (v *hotView) Iter(kv.RangeOptions) (kv.Iterator, error) { panic("not used") }
func (v *hotView) Len() (int64, error)                       { return 1, nil }
func (v *hotView) Now() time.Time                            { return time.Time{} }
func (v *hotView) Pin() error                                { return nil }
func (v *hotView) Close() error                              { return nil }
func (b *hotBackend) View(time.Time) (View, error)           { return &b.view, nil }
func (q *hotSequence) Watch([][]byte, *Watcher)              {}
func (q *hotSequence) Record(now time.Time, fn func(t *kv.Txn) error) error {
	txn := q.f.mu.seq.Begin(now)
	defer txn.Abort()
	return fn(txn)
}

type hotSequence struct{ f *fakeBackend }

func (b *hotBackend) Submit(_ context.Context, fn func(Sequence) error, done func(wal.LSN, error)) {
	done(1, fn(&b.seq))
}

// perBatch is how many allocations a batch of commands makes, from bytes to replies.
func perBatch(tb testing.TB, request string) float64 {
	fake := newFake(tb)
	backend := &hotBackend{fakeBackend: fake, view: hotView{make([]byte, 100)}, seq: hotSequence{fake}}
	s, err := New(Options{Backend: backend})
	if err != nil {
		tb.Fatal(err)
	}
	session := newSession(s, 1, "here", "there", false)
	in := []byte(request)
	ctx := context.Background()
	return testing.AllocsPerRun(200, func() {
		session.Input().Feed(in)
		for session.Step(ctx) != NeedInput {
		}
		session.Sent()
	})
}

// BenchmarkSession is the session's own cost of a command, from bytes to replies, without socket and log.
func BenchmarkSession(b *testing.B) {
	value := string(make([]byte, 100))
	for _, c := range []struct{ name, request string }{
		{"GET", encode("GET", "key:000001")}, {"SET", encode("SET", "key:000001", value)},
	} {
		for _, pipeline := range []int{1, 16} {
			b.Run(fmt.Sprintf("%s/pipeline=%d", c.name, pipeline), func(b *testing.B) {
				fake := newFake(b)
				s, err := New(Options{Backend: &hotBackend{fakeBackend: fake, view: hotView{[]byte(value)}, seq: hotSequence{fake}}})
				if err != nil {
					b.Fatal(err)
				}
				session := newSession(s, 1, "here", "there", false)
				in := []byte(strings.Repeat(c.request, pipeline))
				b.ReportAllocs()
				for i := 0; i < b.N; i += pipeline {
					session.Input().Feed(in)
					for session.Step(context.Background()) != NeedInput {
					}
					session.Sent()
				}
			})
		}
	}
}

func TestHotPathAllocations(t *testing.T) {
	value := string(make([]byte, 100))
	if n := perBatch(t, encode("GET", "key:000001")); n > 0 {
		t.Errorf("GET: %v allocations, want none", n)
	}
	one := perBatch(t, encode("SET", "key:000001", value))
	if one > 2 {
		t.Errorf("SET: %v allocations, want at most 2", one)
	}
	many := ""
	for range 16 {
		many += encode("SET", "key:000001", value)
	}
	if n := perBatch(t, many); n > 16*one {
		t.Errorf("16 SETs: %v allocations, want no more than 16 single ones (%v)", n, 16*one)
	}
	t.Logf("SET: %v allocations, those of the state included", one)
}
