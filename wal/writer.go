package wal

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Writer is group commit on the active: callers append records under a short lock, one goroutine makes frames of them.
// While one frame is synced the next one fills. Two invariants:
//
//   - LSNs are given in the order of Append, and frames hold records in LSN order;
//   - OnDurable(p) means that every record up to p.LSN is synced here, and nothing is ever said of a record behind a failure (R10).
//
// Methods are safe for concurrent use.
type Writer struct {
	l    *Log
	o    WriterOptions
	comp *compressor
	once sync.Once // OnError

	wake    chan struct{} // capacity 1: there is work, or the end
	pace    chan struct{} // capacity 1: see Progress, or the queue is long
	done    chan struct{} // closed when the goroutine ended
	stopped chan struct{} // closed by the first failure

	// progress is the LSN up to which nothing is waited for any more; last and began are of the newest frame.
	progress atomic.Uint64
	last     LSN       // owned by the goroutine
	began    time.Time // likewise
	gathering

	mu struct {
		sync.Mutex
		queue  []*chunk // frames to be; the last one still fills
		free   []*chunk
		next   LSN           // of the next record
		guess  int           // memory that the last frame took
		want   uint32        // poke pace when so many records fill the only chunk; 0: never
		queued int           // bytes appended and not yet durable
		room   chan struct{} // closed and replaced when the queue is below its limit again; nil if nobody waits
		err    error         // ErrClosed or the log's failure: no more Append
	}
}

// chunk is the raw payload of a frame to be, behind room for its header.
type chunk struct {
	buf   []byte
	first LSN
	count uint32
	since time.Time // of the first record
}

// NewWriter starts the Writer of an epoch behind the log's end. There is one at a time (ErrWriterOpen), and while it is open
// AppendFrames, TruncateTail and Reset are refused. Errors: ErrStaleEpoch, ErrFailed, ErrClosed.
func (l *Log) NewWriter(o WriterOptions) (*Writer, error) {
	o.ensureDefaults()
	o.FrameBytes = min(o.FrameBytes, int(l.o.MaxFrameBytes))
	comp, err := newCompressor(o.Codec)
	if err != nil {
		return nil, err
	}
	l.app.Lock()
	defer l.app.Unlock()
	if err := l.usable(false); err != nil {
		return nil, err
	}
	end := l.End()
	if o.Epoch < end.Epoch || o.Epoch == 0 {
		return nil, fmt.Errorf("%w: writer of epoch %d, the log is in epoch %d", ErrStaleEpoch, o.Epoch, end.Epoch)
	}
	w := &Writer{l: l, o: o, comp: comp, wake: make(chan struct{}, 1), pace: make(chan struct{}, 1), done: make(chan struct{}), stopped: make(chan struct{})}
	w.mu.next = end.LSN + 1
	l.mu.Lock()
	l.mu.writer = w
	l.mu.Unlock()
	go w.run()
	return w, nil
}

func (o *WriterOptions) ensureDefaults() {
	if o.Codec == 0 {
		o.Codec = CodecS2
	}
	if o.Committed == nil {
		o.Committed = func() LSN { return 0 }
	}
	if o.OnDurable == nil {
		o.OnDurable = func(Position) {}
	}
	if o.OnFrame == nil {
		o.OnFrame = func(FrameTimes) {}
	}
	if o.OnError == nil {
		o.OnError = func(error) {}
	}
	if o.QueueBytes <= 0 {
		o.QueueBytes = DefaultQueueBytes
	}
	if o.FrameBytes <= 0 {
		o.FrameBytes = DefaultFrameBytes
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}

// Append copies a record into the frame that fills and returns its LSN. It never waits for I/O: whoever feeds it without
// bound calls Admit first. The record is durable once OnDurable said so. Errors: ErrTooLarge, ErrClosed, ErrFailed; then nothing was
// appended.
func (w *Writer) Append(kind Kind, payload []byte) (LSN, error) {
	size := recordSize(payload)
	if uint64(size) > uint64(w.l.o.MaxFrameBytes) {
		return 0, fmt.Errorf("%w: record of %d bytes: want at most %d", ErrTooLarge, len(payload), w.l.o.MaxFrameBytes)
	}
	w.mu.Lock()
	if w.mu.err != nil {
		err := w.mu.err
		w.mu.Unlock()
		return 0, err
	}
	lsn, fresh, full := w.appendLocked(kind, payload, size)
	w.mu.Unlock()
	w.appended(fresh, full)
	return lsn, nil
}

// AppendAll is Append of several records that follow each other without another between them, and that share one frame if they fit in one. It returns the LSN of the
// first one.
func (w *Writer) AppendAll(records []Record) (first LSN, err error) {
	for _, r := range records {
		if size := recordSize(r.Payload); uint64(size) > uint64(w.l.o.MaxFrameBytes) {
			return 0, fmt.Errorf("%w: record of %d bytes: want at most %d", ErrTooLarge, len(r.Payload), w.l.o.MaxFrameBytes)
		}
	}
	w.mu.Lock()
	if err := w.mu.err; err != nil {
		w.mu.Unlock()
		return 0, err
	}
	first = w.mu.next
	var anyFresh, anyFull bool
	for _, r := range records {
		_, fresh, full := w.appendLocked(r.Kind, r.Payload, recordSize(r.Payload))
		anyFresh, anyFull = anyFresh || fresh, anyFull || full
	}
	w.mu.Unlock()
	w.appended(anyFresh, anyFull)
	return first, nil
}

// appendLocked puts a record into the chunk that fills. w.mu is held.
func (w *Writer) appendLocked(kind Kind, payload []byte, size int) (lsn LSN, fresh, full bool) {
	c, fresh := w.chunkFor(size)
	before := len(c.buf)
	c.buf = appendRecord(c.buf, kind, payload)
	c.count++
	w.mu.queued += len(c.buf) - before
	lsn = w.mu.next
	w.mu.next++
	full = fresh && len(w.mu.queue) > 1 || w.mu.want > 0 && c.count >= w.mu.want
	return lsn, fresh, full
}

// appended wakes the goroutine after an append.
func (w *Writer) appended(fresh, full bool) {
	if fresh {
		w.signal()
	}
	if full {
		poke(w.pace)
	}
}

// chunkFor returns the chunk that fills, or a fresh one if it is full. w.mu is held.
func (w *Writer) chunkFor(size int) (c *chunk, fresh bool) {
	if n := len(w.mu.queue); n > 0 {
		c = w.mu.queue[n-1]
		if len(c.buf)-HeaderSize+size <= w.o.FrameBytes {
			return c, false
		}
	}
	if n := len(w.mu.free); n > 0 {
		c, w.mu.free = w.mu.free[n-1], w.mu.free[:n-1]
	} else {
		c = &chunk{buf: make([]byte, HeaderSize, max(w.mu.guess, 2*HeaderSize+size))}
	}
	c.first, c.count, c.since = w.mu.next, 0, time.Now()
	w.mu.queue = append(w.mu.queue, c)
	return c, true
}

func (w *Writer) signal() { poke(w.wake) }

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Progress says that the records up to lsn are through: committed, as a rule. See WriterOptions.Pace.
func (w *Writer) Progress(lsn LSN) {
	w.progress.Store(uint64(lsn))
	poke(w.pace)
}

// Admit waits while more than QueueBytes wait to become durable. Errors: ErrClosed, ErrFailed, the context's.
func (w *Writer) Admit(ctx context.Context) error {
	for {
		w.mu.Lock()
		err, full := w.mu.err, w.mu.queued > w.o.QueueBytes
		if full && w.mu.room == nil {
			w.mu.room = make(chan struct{})
		}
		room := w.mu.room
		w.mu.Unlock()
		if err != nil || !full {
			return err
		}
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Full reports whether Admit would wait now.
func (w *Writer) Full() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.err == nil && w.mu.queued > w.o.QueueBytes
}

// stop ends the writer after a failure: nothing more is appended or reported durable, and those who wait are told. It may be
// called more than once.
func (w *Writer) stop(err error) {
	w.once.Do(func() {
		w.mu.Lock()
		w.mu.err, w.mu.queue = err, nil
		if w.mu.room != nil {
			close(w.mu.room)
			w.mu.room = nil
		}
		w.mu.Unlock()
		close(w.stopped)
		w.signal()
		w.o.OnError(err)
	})
}

// Close makes durable what was appended, then ends the writer. It returns the failure if there was one. It does not wait for
// a sync that hangs once the log was failed by Log.Fail.
func (w *Writer) Close() error {
	w.mu.Lock()
	if w.mu.err == nil {
		w.mu.err = ErrClosed
		if w.mu.room != nil {
			close(w.mu.room)
			w.mu.room = nil
		}
	}
	w.mu.Unlock()
	w.signal()
	poke(w.pace)
	select {
	case <-w.done:
	case <-w.stopped:
	}
	l := w.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.writer == w {
		l.mu.writer = nil
	}
	return l.mu.failed
}
