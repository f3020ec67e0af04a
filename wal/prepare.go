package wal

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// preparer makes the next segment file ready ahead of need, in the background: a zero-filled file or a recycled one, synced,
// under its final name, with zeros where the header will be. A write into such a file changes no metadata, which makes
// its sync about twice as fast as that of a growing file.
type preparer struct {
	dir    *directory
	size   int64
	logger *slog.Logger
	done   chan struct{}

	cond *sync.Cond // on mu
	mu   struct {
		sync.Mutex
		want   uint64   // sequence number asked for, 0: none
		ready  uint64   // sequence number of the file that is ready, 0: none
		busy   bool     // making want
		err    error    // why the last attempt failed
		stop   bool     //
		spares []uint64 // recycled files, by the sequence number they had
	}
}

func newPreparer(dir *directory, size int64, logger *slog.Logger) *preparer {
	p := &preparer{dir: dir, size: size, logger: logger, done: make(chan struct{})}
	p.cond = sync.NewCond(&p.mu)
	return p
}

// run is the preparer's goroutine.
func (p *preparer) run() {
	defer close(p.done)
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		for !p.mu.stop && p.mu.want == 0 {
			p.cond.Wait()
		}
		if p.mu.stop {
			return
		}
		p.make()
	}
}

// make prepares the wanted file. p.mu is held, but not during I/O.
func (p *preparer) make() {
	seq, spare := p.mu.want, uint64(0)
	if n := len(p.mu.spares); n > 0 {
		spare, p.mu.spares = p.mu.spares[n-1], p.mu.spares[:n-1]
	}
	p.mu.busy = true
	p.mu.Unlock()
	err := prepareFile(p.dir, seq, spare, p.size)
	p.mu.Lock()
	p.mu.busy, p.mu.want, p.mu.err = false, 0, err
	if err == nil {
		p.mu.ready = seq
	} else {
		p.logger.Warn("next segment not prepared", "segment", seq, "error", err)
	}
	p.cond.Broadcast()
}

// request asks for the file of a segment; it does not wait.
func (p *preparer) request(seq uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requestLocked(seq)
}

func (p *preparer) requestLocked(seq uint64) {
	if p.mu.ready != seq && p.mu.want == 0 {
		p.mu.want = seq
		p.cond.Broadcast()
	}
}

// take waits until the file of a segment is ready and hands it over. After a failure in the background it tries once more.
func (p *preparer) take(seq uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for tried := false; p.mu.ready != seq; p.cond.Wait() {
		if p.mu.stop {
			return ErrClosed
		}
		if p.mu.want == 0 && tried {
			return p.mu.err
		}
		if p.mu.want == 0 {
			p.requestLocked(seq)
			tried = true
		}
	}
	p.mu.ready = 0
	return nil
}

// quiesce waits for work under way and removes the file that is ready. The caller keeps others from asking for one.
func (p *preparer) quiesce() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.mu.busy {
		p.cond.Wait()
	}
	p.mu.want = 0
	seq := p.mu.ready
	p.mu.ready = 0
	if seq == 0 {
		return nil
	}
	return p.dir.remove(segmentName(seq))
}

// close stops the goroutine and waits for it.
func (p *preparer) close() {
	p.mu.Lock()
	p.mu.stop = true
	p.cond.Broadcast()
	p.mu.Unlock()
	<-p.done
}

// addSpare hands over a recycled file.
func (p *preparer) addSpare(seq uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.spares = append(p.mu.spares, seq)
}

// spareCount is how many recycled files wait.
func (p *preparer) spareCount() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.mu.spares)
}

// forgetSpares makes the preparer use no recycled file any more.
func (p *preparer) forgetSpares() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.spares = nil
}

// prepareFile makes NNN.seg: prewritten, with a zero header, name and contents durable. spare is the number of a recycled
// file to use, 0 for none.
func prepareFile(d *directory, seq, spare uint64, size int64) error {
	from := d.join(segmentName(seq) + tmpSuffix)
	if spare != 0 && clearSpare(d, spare, size) == nil {
		from = d.join(spareName(spare))
	} else if err := zeroFile(d, from, size); err != nil {
		return err
	}
	if err := d.fs.Rename(from, d.join(segmentName(seq))); err != nil {
		return fmt.Errorf("rename %s: %w", from, err)
	}
	return d.sync()
}

// clearSpare puts zeros where the header and the first frame's header of a recycled file are, durably. What follows are
// frames of lower LSNs, which recovery knows for what they are. A file that does not fit is removed.
func clearSpare(d *directory, spare uint64, size int64) error {
	path := d.join(spareName(spare))
	f, err := d.fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	have, err := fileSize(f)
	if err == nil && (have < size || have > 2*size) {
		err = fmt.Errorf("spare %s has %d bytes: want %d", path, have, size)
	}
	if err == nil {
		err = writeAt(f, make([]byte, segmentHeader+HeaderSize), 0)
	}
	if err == nil {
		err = f.SyncData()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		err = errors.Join(err, d.fs.Remove(path)) // a file whose sync failed is never used again (R10)
	}
	return err
}

// zeroFile makes a file of zeros and syncs it, now and then on the way so that no burst of dirty pages delays the log's syncs.
func zeroFile(d *directory, path string, size int64) error {
	const syncEvery = 8 << 20
	if err := d.fs.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	f, err := d.fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	for done := int64(0); err == nil && done < size; done += syncEvery {
		if err = zeroRange(f, done, min(done+syncEvery, size)); err == nil {
			err = f.Sync()
		}
	}
	if err = errors.Join(err, f.Close()); err != nil {
		err = errors.Join(err, d.fs.Remove(path))
		return fmt.Errorf("prepare %s: %w", path, err)
	}
	return nil
}

// beginSegment writes the header of a prepared file and syncs it, before any frame: a segment with a header proves that
// everything before it was durable.
func beginSegment(f vfs.File, h segmentHead) error {
	b := append(h.encode(), make([]byte, HeaderSize)...)
	if err := writeAt(f, b, 0); err != nil {
		return fmt.Errorf("write segment header: %w", err)
	}
	if err := f.SyncData(); err != nil {
		return fmt.Errorf("sync segment header: %w", err)
	}
	return nil
}
