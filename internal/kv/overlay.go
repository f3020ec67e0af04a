package kv

import "repld/wal"

// pending is what a key holds after the newest record in flight that touches it.
type pending struct {
	key     string
	lsn     wal.LSN // of that record; 0 once a Clear made it void
	entry   Entry   // Value lies in the payload of that record
	deleted bool
}

// flight is one record in flight.
type flight struct {
	lsn     wal.LSN
	buf     []byte // its payload, which the entries of the overlay point into
	touched []*pending
}

// overlay is the effects of the records that are in the log but perhaps not yet in Pebble. Keys that it does not hold are
// as in Pebble, unless cleared is set: then they are gone.
type overlay struct {
	keys    map[string]*pending
	flights []flight // in LSN order, from head
	head    int
	cleared wal.LSN // the newest Clear in flight, 0 = none
	last    wal.LSN
	once    onceOverlay

	bufs  [][]byte   // payload buffers to use again
	pends []*pending // entries to use again
	lists [][]*pending
}

const (
	keepBufs       = 256
	keepBufBytes   = 16 << 10
	keepPends      = 4096
	initialPayload = 256
)

func newOverlay() overlay {
	return overlay{keys: make(map[string]*pending), once: onceOverlay{by: make(map[string]pendingOnce)}}
}

func (o *overlay) buffer() []byte {
	if n := len(o.bufs); n > 0 {
		b := o.bufs[n-1]
		o.bufs = o.bufs[:n-1]
		return b
	}
	return make([]byte, 0, initialPayload)
}

func (o *overlay) recycle(buf []byte) {
	if cap(buf) <= keepBufBytes && len(o.bufs) < keepBufs {
		o.bufs = append(o.bufs, buf)
	}
}

// add makes a record's changes the newest of their keys. LSNs must rise: anything else would make reads go back in time.
func (o *overlay) add(lsn wal.LSN, buf []byte, cleared bool, changes []change) {
	if lsn <= o.last {
		panic("kv: record committed to the overlay out of LSN order")
	}
	o.last = lsn
	if cleared {
		o.void()
		o.cleared = lsn
	}
	f := flight{lsn: lsn, buf: buf}
	if n := len(o.lists); n > 0 {
		f.touched, o.lists = o.lists[n-1], o.lists[:n-1]
	}
	for i := range changes {
		c := &changes[i]
		p := o.keys[string(c.key)]
		if p == nil {
			p = o.pend()
			p.key = string(c.key)
			o.keys[p.key] = p
		}
		p.lsn, p.entry, p.deleted = lsn, c.entry, c.deleted
		f.touched = append(f.touched, p)
	}
	o.flights = append(o.flights, f)
}

func (o *overlay) pend() *pending {
	if n := len(o.pends); n > 0 {
		p := o.pends[n-1]
		o.pends = o.pends[:n-1]
		return p
	}
	return new(pending)
}

// void forgets every key. The entries are not used again: flights still point to them.
func (o *overlay) void() {
	for _, p := range o.keys {
		p.lsn = 0
	}
	clear(o.keys)
}

// drop forgets what is in Pebble: every record up to lsn.
func (o *overlay) drop(lsn wal.LSN) {
	for o.head < len(o.flights) && o.flights[o.head].lsn <= lsn {
		f := &o.flights[o.head]
		for _, p := range f.touched {
			if p.lsn != f.lsn {
				continue // a later record, or a Clear, has taken the key over
			}
			delete(o.keys, p.key)
			if len(o.pends) < keepPends {
				*p = pending{}
				o.pends = append(o.pends, p)
			}
		}
		o.recycle(f.buf)
		if cap(f.touched) <= 64 && len(o.lists) < keepBufs {
			clear(f.touched)
			o.lists = append(o.lists, f.touched[:0])
		}
		*f = flight{}
		o.head++
	}
	if o.cleared <= lsn {
		o.cleared = 0
	}
	o.once.drop(lsn)
	o.compact()
}

// compact moves the flights to the front when more than half of the slice is spent.
func (o *overlay) compact() {
	if o.head*2 < len(o.flights) {
		return
	}
	n := copy(o.flights, o.flights[o.head:])
	clear(o.flights[n:])
	o.flights, o.head = o.flights[:n], 0
}
