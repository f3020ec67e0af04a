package wal

import (
	"fmt"
	"sync"
	"testing"
)

// waiters wakes the callers of a benchmark in LSN order.
type waiters struct {
	mu    sync.Mutex
	queue []waiter
}

type waiter struct {
	lsn  LSN
	done chan struct{}
}

// append appends under the lock, so that the queue is in LSN order.
func (q *waiters) append(b *testing.B, w *Writer, payload []byte, done chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	lsn, err := w.Append(KindEffects, payload)
	if err != nil {
		b.Error(err)
		done <- struct{}{}
		return
	}
	q.queue = append(q.queue, waiter{lsn, done})
}

func (q *waiters) durable(p Position) {
	q.mu.Lock()
	n := 0
	for n < len(q.queue) && q.queue[n].lsn <= p.LSN {
		n++
	}
	due := q.queue[:n:n]
	q.queue = append([]waiter(nil), q.queue[n:]...)
	q.mu.Unlock()
	for _, w := range due {
		w.done <- struct{}{}
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, callers := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) { benchAppend(b, callers) })
	}
}

func benchAppend(b *testing.B, callers int) {
	l, _, err := Open(Options{Dir: b.TempDir(), Identity: testIdentity()})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	var q waiters
	w, err := l.NewWriter(WriterOptions{Epoch: 1, OnDurable: q.durable})
	if err != nil {
		b.Fatal(err)
	}
	payload := make([]byte, 128)
	for i := range payload[:64] {
		payload[i] = byte(i * 37)
	}
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	var wg sync.WaitGroup
	share := b.N/callers + 1
	b.ResetTimer()
	for range callers {
		wg.Go(func() {
			done := make(chan struct{}, 1)
			for range share {
				q.append(b, w, payload, done)
				<-done
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	s := l.Stats()
	b.ReportMetric(float64(share*callers)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(s.Records)/float64(s.Frames), "records/frame")
	b.ReportMetric(float64(s.SyncTime.Microseconds())/float64(s.Syncs), "µs/sync")
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkReplayRead reads a log from disk, frame by frame and record by record.
func BenchmarkReplayRead(b *testing.B) {
	o := Options{Dir: b.TempDir(), Identity: testIdentity(), MemoryBytes: 1}
	l, _, err := Open(o)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	const perFrame, frames = 64, 2000
	for range frames / 20 {
		if _, err := l.AppendFrames(chain(b, l.End(), 20, perFrame, 100, FrameOptions{})); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(l.Bytes())
	b.ReportAllocs()
	b.ResetTimer()
	records := 0
	for range b.N {
		r, err := l.NewReader(0)
		if err != nil {
			b.Fatal(err)
		}
		for {
			f, err := r.TryNext()
			if err != nil {
				b.Fatal(err)
			}
			if f == nil {
				break
			}
			if err := f.Each(func(Record) error { records++; return nil }); err != nil {
				b.Fatal(err)
			}
		}
		r.Close()
	}
	b.ReportMetric(float64(records)/b.Elapsed().Seconds(), "records/s")
}
