package wal

import "time"

// run is the writer goroutine.
func (w *Writer) run() {
	defer close(w.done)
	for {
		if w.waiting() {
			w.hold()
			w.gather()
		}
		c, end := w.take()
		if c != nil {
			if !w.commit(c) {
				return
			}
		} else if end {
			return
		} else {
			<-w.wake
		}
	}
}

func (w *Writer) waiting() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.mu.queue) > 0
}

// hold waits until the records of the newest frame are through, a whole frame waits behind it, or Pace has passed since it began.
func (w *Writer) hold() {
	if w.o.Pace <= 0 || LSN(w.progress.Load()) >= w.last {
		return
	}
	left := w.o.Pace - time.Since(w.began)
	if left <= 0 {
		return
	}
	t := time.NewTimer(left)
	defer t.Stop()
	for LSN(w.progress.Load()) < w.last && !w.urgent() {
		select {
		case <-w.pace:
		case <-t.C:
			return
		}
	}
}

// urgent reports whether there is a reason not to wait: a frame is full, or the writer is to end.
func (w *Writer) urgent() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.mu.queue) > 1 || w.mu.err != nil
}

// take removes the oldest chunk. end is true if there is none and there will be none.
func (w *Writer) take() (c *chunk, end bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.mu.queue) == 0 {
		return nil, w.mu.err != nil
	}
	c = w.mu.queue[0]
	w.mu.guess = min(len(c.buf)+HeaderSize, w.o.FrameBytes)
	n := copy(w.mu.queue, w.mu.queue[1:])
	w.mu.queue[n] = nil
	w.mu.queue = w.mu.queue[:n]
	return c, false
}

// commit makes one frame durable. It reports whether the writer may go on.
func (w *Writer) commit(c *chunk) bool {
	taken, end := time.Now(), w.l.End()
	bytes := len(c.buf) - HeaderSize
	f, kept := seal(Header{Count: c.count, Epoch: w.o.Epoch, First: c.first, Committed: w.o.Committed(), Time: w.o.Now(), Prev: end.Hash}, c.buf, w.comp)
	f.dec = &w.l.dec
	w.last, w.began, w.count = f.Last(), time.Now(), f.Count
	pos, err := w.l.commit(f)
	if err != nil {
		w.stop(err)
		return false
	}
	w.o.OnFrame(FrameTimes{Last: w.last, Queued: taken.Sub(c.since), Encoded: w.began.Sub(taken), Synced: time.Since(w.began)})
	w.o.OnDurable(pos)
	w.recycle(c, kept, bytes)
	return true
}

// commit appends and syncs the frame of the open Writer.
func (l *Log) commit(f *Frame) (Position, error) {
	l.app.Lock()
	defer l.app.Unlock()
	if err := l.usable(true); err != nil {
		return Position{}, err
	}
	one := [1]*Frame{f}
	if err := l.put(one[:]); err != nil {
		return Position{}, err
	}
	return l.sync()
}

// recycle takes a chunk back, unless its memory is a frame's now, and lets those in who wait for room.
func (w *Writer) recycle(c *chunk, kept bool, bytes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.queued -= bytes; w.mu.room != nil && w.mu.queued <= w.o.QueueBytes {
		close(w.mu.room)
		w.mu.room = nil
	}
	if !kept && len(w.mu.free) < 4 && cap(c.buf) <= 2*w.o.FrameBytes {
		c.buf = c.buf[:HeaderSize]
		w.mu.free = append(w.mu.free, c)
	}
}
