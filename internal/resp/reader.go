package resp

import (
	"bytes"
	"fmt"
)

// ProtocolError is a request that cannot be read on from. Its text is what the client is answered, after "-ERR ", before
// the connection is closed.
type ProtocolError struct {
	Text string
}

// Error returns the text as Redis answers it.
func (e *ProtocolError) Error() string { return "Protocol error: " + e.Text }

const (
	firstBuffer = 4 << 10  // what an idle connection costs
	readBuffer  = 64 << 10 // grown to when reads fill the buffer; larger ones are given back
)

// span is an argument of the request in progress: offsets from the request's start, so that the buffer may move.
type span struct{ from, to uint32 }

// Reader turns bytes into commands. It is used by one goroutine at a time.
type Reader struct {
	limits Limits
	authed bool
	err    error

	buf   []byte
	start int // of the request in progress
	pos   int // first byte that is not parsed
	scan  int // no line end before this: searched already
	want  int // free space to offer to the next read

	need  int // arguments still to come in the request in progress; 0: none in progress
	bulk  int // length of the argument being received; -1: its length line is still to come
	spans []span
	args  [][]byte // arguments of the batch
}

// NewReader makes a Reader whose client has not authenticated: the limits for that hold until SetAuthenticated.
func NewReader(l Limits) *Reader {
	l.EnsureDefaults()
	return &Reader{limits: l, bulk: -1, want: firstBuffer}
}

// SetAuthenticated chooses whether the full limits hold, for requests that are not yet parsed.
func (r *Reader) SetAuthenticated(ok bool) { r.authed = ok }

// Buffered is the number of bytes held that Next has not yet returned as commands.
func (r *Reader) Buffered() int { return len(r.buf) - r.start }

// Partial reports whether a request has begun and is not complete. It is meant for the time after Next returned nothing.
func (r *Reader) Partial() bool { return len(r.buf) > r.start }

// Space returns free memory to read into; Advance tells how much was. It may only be called when the commands that Next
// returned are done with (it releases them).
func (r *Reader) Space() []byte {
	r.Release()
	free := cap(r.buf) - len(r.buf)
	if free < min(r.want, r.missing()) || free == 0 {
		r.grow()
	}
	return r.buf[len(r.buf):cap(r.buf)]
}

// missing is how many bytes the argument in progress still needs: no reason to offer more than that, except that a small
// read is no cheaper than one of firstBuffer.
func (r *Reader) missing() int {
	if r.need == 0 || r.bulk < 0 {
		return r.want
	}
	return max(r.bulk+2-(len(r.buf)-r.pos), firstBuffer)
}

// grow makes room for at least one more byte, and for no more than as much again as was received, because what a request
// declares may never come.
func (r *Reader) grow() {
	room := max(r.want, min(len(r.buf), r.missing()))
	next := make([]byte, len(r.buf), len(r.buf)+room)
	copy(next, r.buf)
	r.buf = next
}

// Advance tells that n bytes were read into the memory that Space returned.
func (r *Reader) Advance(n int) {
	if n == cap(r.buf)-len(r.buf) {
		r.want = min(r.want*2, readBuffer)
	}
	r.buf = r.buf[:len(r.buf)+n]
}

// Feed copies bytes in; like Space it releases the commands that were returned.
func (r *Reader) Feed(p []byte) {
	for len(p) > 0 {
		n := copy(r.Space(), p)
		r.Advance(n)
		p = p[n:]
	}
}

// Release gives up the commands returned so far: their memory will be used again.
func (r *Reader) Release() {
	if cap(r.args) > 4096 {
		r.args = nil
	}
	r.args = r.args[:0]
	if r.start == 0 {
		return
	}
	n := copy(r.buf, r.buf[r.start:])
	r.buf = r.buf[:n]
	r.pos -= r.start
	r.scan -= r.start
	r.start = 0
	if n == 0 && cap(r.buf) > 2*readBuffer {
		r.buf, r.want = nil, firstBuffer
	}
}

// Next returns the next complete command, its name first: at least one argument. It returns nil when more bytes are
// needed, and a *ProtocolError when the stream cannot be read on. The arguments are valid until Release, Space or Feed
// and may be changed, but not extended, in place.
func (r *Reader) Next() ([][]byte, error) {
	for r.err == nil && r.pos < len(r.buf) {
		if r.need > 0 {
			return r.multibulk()
		}
		var (
			args [][]byte
			more bool
		)
		if r.buf[r.pos] == '*' {
			more = !r.header()
		} else {
			args, more = r.inline()
		}
		if args != nil {
			return args, nil
		}
		if more {
			break
		}
	}
	return nil, r.err
}

func (r *Reader) fail(format string, args ...any) {
	r.err = &ProtocolError{Text: fmt.Sprintf(format, args...)}
}

// line finds the end of a length line: the index of its '\r', of which one more byte must be there. As in Redis, that byte
// is taken for the '\n' without a look.
func (r *Reader) line(what string) (end int, ok bool) {
	from := max(r.scan, r.pos)
	i := bytes.IndexByte(r.buf[from:], '\r')
	if i < 0 {
		r.scan = len(r.buf)
		if len(r.buf)-r.pos > r.limits.MaxInline {
			r.fail("too big %s count string", what)
		}
		return 0, false
	}
	r.scan = from + i
	if r.scan-r.pos > r.limits.MaxInline {
		r.fail("too big %s count string", what)
		return 0, false
	}
	return r.scan, r.scan+1 < len(r.buf)
}

// header reads "*<n>\r\n"; false when it is not complete or wrong. Counts below 1 are no request at all.
func (r *Reader) header() bool {
	end, ok := r.line("mbulk")
	if !ok {
		return false
	}
	n, ok := ParseInt(r.buf[r.pos+1 : end])
	switch {
	case !ok || n > int64(r.limits.MaxArgs):
		r.fail("invalid multibulk length")
		return false
	case !r.authed && n > int64(r.limits.AuthArgs):
		r.fail("unauthenticated multibulk length")
		return false
	}
	r.pos = end + 2
	if n <= 0 {
		r.start = r.pos
		return true
	}
	r.need, r.bulk, r.spans = int(n), -1, r.spans[:0]
	return true
}

// multibulk reads the arguments of the request in progress as far as they are there.
func (r *Reader) multibulk() ([][]byte, error) {
	for r.need > 0 {
		if r.bulk < 0 && !r.bulkHeader() {
			return nil, r.err
		}
		end := r.pos + r.bulk
		if end+2 > len(r.buf) {
			return nil, nil
		}
		r.spans = append(r.spans, span{uint32(r.pos - r.start), uint32(end - r.start)})
		r.pos, r.bulk = end+2, -1
		r.need--
	}
	first := len(r.args)
	request := r.buf[r.start:r.pos]
	for _, s := range r.spans {
		r.args = append(r.args, request[s.from:s.to:s.to])
	}
	if cap(r.spans) > 4096 {
		r.spans = nil
	}
	r.start = r.pos
	return r.args[first:len(r.args):len(r.args)], nil
}

// bulkHeader reads "$<length>\r\n"; false when it is not complete or wrong.
func (r *Reader) bulkHeader() bool {
	if r.pos == len(r.buf) {
		return false
	}
	end, ok := r.line("bulk")
	if !ok {
		return false
	}
	if c := r.buf[r.pos]; c != '$' {
		r.fail("expected '$', got '%c'", printable(c))
		return false
	}
	n, ok := ParseInt(r.buf[r.pos+1 : end])
	switch {
	case !ok || n < 0 || n > int64(r.limits.MaxBulk):
		r.fail("invalid bulk length")
		return false
	case !r.authed && n > int64(r.limits.AuthBulk):
		r.fail("unauthenticated bulk length")
		return false
	case int64(end+2-r.start)+n > int64(r.limits.MaxRequest):
		r.fail("too big request")
		return false
	}
	r.pos, r.bulk = end+2, int(n)
	return true
}

// printable keeps a line end out of an error reply.
func printable(c byte) byte {
	if c == '\r' || c == '\n' {
		return ' '
	}
	return c
}
