package wal

import (
	"testing"
	"testing/synctest"
	"time"
)

// three appends three records that go into one frame.
func three(t *testing.T, w *Writer) {
	t.Helper()
	r := Record{Kind: KindEffects, Payload: make([]byte, 1000)}
	if _, err := w.AppendAll([]Record{r, r, r}); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

// TestGather: a frame waits until as many records are there as the frame before had, and then no longer.
func TestGather(t *testing.T) {
	inBubble(t, WriterOptions{Gather: time.Second}, func(l *Log, w *Writer, add func(int)) {
		began := time.Now()
		add(1)
		durableAt(t, l, 1, began, 0)
		three(t, w) // the frame before had one
		durableAt(t, l, 4, began, 0)
		for range 2 {
			add(1)
			durableAt(t, l, 4, began, 0)
		}
		add(1)
		durableAt(t, l, 7, began, 0)
		add(1)
		durableAt(t, l, 7, began, 0)
		if err := w.Close(); err != nil { // makes durable what waits, at once
			t.Fatal(err)
		}
		durableAt(t, l, 8, began, 0)
		frames := readAll(t, l, 4)
		if len(frames) != 2 || frames[0].Count != 3 {
			t.Fatalf("%d frames after record 4, the first of %d records; want 2, and 3", len(frames), frames[0].Count)
		}
	})
}

// TestGatherBound: nobody waits for longer than Gather, and after a wait in vain the next frames do not wait at all.
func TestGatherBound(t *testing.T) {
	inBubble(t, WriterOptions{Gather: time.Second}, func(l *Log, w *Writer, add func(int)) {
		began := time.Now()
		three(t, w)
		add(1)
		durableAt(t, l, 3, began, 0)
		time.Sleep(time.Second)
		synctest.Wait()
		durableAt(t, l, 4, began, time.Second)
		for lsn := LSN(4); lsn < 12; lsn += 4 {
			three(t, w)
			add(1)
			durableAt(t, l, lsn+4, began, time.Second)
		}
		three(t, w)
		add(1)
		durableAt(t, l, 15, began, time.Second)
	})
}
