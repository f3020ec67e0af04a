package resp

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// Writer encodes replies into a growing buffer. It is used by one goroutine at a time.
//
// Beyond its limit it drops everything and reports Overflow: replies are then incomplete, and the connection can only be
// closed.
type Writer struct {
	buf      []byte
	limit    int
	proto    int
	overflow bool
}

// NewWriter makes a Writer of RESP2 that holds at most limit bytes.
func NewWriter(limit int) *Writer { return &Writer{limit: limit, proto: 2} }

// SetProto chooses the protocol version, 2 or 3, for the replies that follow.
func (w *Writer) SetProto(v int) { w.proto = v }

// Proto is the protocol version, 2 or 3.
func (w *Writer) Proto() int { return w.proto }

// Len is the number of bytes held.
func (w *Writer) Len() int { return len(w.buf) }

// Bytes are the bytes held, valid until the next call.
func (w *Writer) Bytes() []byte { return w.buf }

// Truncate drops all but the first n bytes.
func (w *Writer) Truncate(n int) { w.buf = w.buf[:n] }

// Overflow reports whether replies were dropped because the limit was reached.
func (w *Writer) Overflow() bool { return w.overflow }

// Reset drops all bytes; a buffer of more than keep bytes is given back to the heap.
func (w *Writer) Reset(keep int) {
	if cap(w.buf) > keep {
		w.buf = nil
	}
	w.buf = w.buf[:0]
}

// room reports whether n more bytes fit.
func (w *Writer) room(n int) bool {
	if w.overflow || len(w.buf)+n > w.limit {
		w.overflow = true
		return false
	}
	return true
}

const lineRoom = 32 // more than any type byte, number and line end

func (w *Writer) number(kind byte, n int64) {
	if !w.room(lineRoom) {
		return
	}
	w.buf = append(w.buf, kind)
	w.buf = strconv.AppendInt(w.buf, n, 10)
	w.buf = append(w.buf, '\r', '\n')
}

func (w *Writer) line(kind byte, s string) {
	if !w.room(len(s) + lineRoom) {
		return
	}
	w.buf = append(w.buf, kind)
	w.buf = append(w.buf, s...)
	w.buf = append(w.buf, '\r', '\n')
}

// Raw appends encoded replies as they are.
func (w *Writer) Raw(b []byte) {
	if w.room(len(b)) {
		w.buf = append(w.buf, b...)
	}
}

// Simple writes a status reply such as OK; s has no line end.
func (w *Writer) Simple(s string) { w.line('+', s) }

// OK writes the status OK.
func (w *Writer) OK() {
	if w.room(5) {
		w.buf = append(w.buf, "+OK\r\n"...)
	}
}

// Error writes an error reply; s begins with its code. Line ends around it are dropped, those inside become spaces.
func (w *Writer) Error(s string) {
	s = strings.Trim(s, "\r\n")
	at := len(w.buf)
	w.line('-', s)
	if w.overflow {
		return
	}
	for i := at; i < len(w.buf)-2; i++ {
		if c := w.buf[i]; c == '\r' || c == '\n' {
			w.buf[i] = ' '
		}
	}
}

// Int writes an integer.
func (w *Writer) Int(n int64) { w.number(':', n) }

// Bulk writes a string of any bytes.
func (w *Writer) Bulk(b []byte) {
	if !w.room(len(b) + lineRoom) {
		return
	}
	w.number('$', int64(len(b)))
	w.buf = append(w.buf, b...)
	w.buf = append(w.buf, '\r', '\n')
}

// BulkString writes a string of any bytes.
func (w *Writer) BulkString(s string) {
	if !w.room(len(s) + lineRoom) {
		return
	}
	w.number('$', int64(len(s)))
	w.buf = append(w.buf, s...)
	w.buf = append(w.buf, '\r', '\n')
}

// BulkInt writes an integer as a string.
func (w *Writer) BulkInt(n int64) {
	var b [20]byte
	w.Bulk(strconv.AppendInt(b[:0], n, 10))
}

// Null writes the absence of a string.
func (w *Writer) Null() {
	if w.proto == 3 {
		w.line('_', "")
		return
	}
	w.number('$', -1)
}

// NullArray writes the absence of an array.
func (w *Writer) NullArray() {
	if w.proto == 3 {
		w.line('_', "")
		return
	}
	w.number('*', -1)
}

// Array begins an array of n replies.
func (w *Writer) Array(n int) { w.number('*', int64(n)) }

// Map begins a map of n pairs: key, value, key, value … In RESP2 it is an array of 2n replies.
func (w *Writer) Map(n int) { w.aggregate('%', n, 2*n) }

// Set begins a set of n replies. In RESP2 it is an array.
func (w *Writer) Set(n int) { w.aggregate('~', n, n) }

// Push begins an out-of-band message of n replies. In RESP2 it is an array.
func (w *Writer) Push(n int) { w.aggregate('>', n, n) }

func (w *Writer) aggregate(kind byte, n, flat int) {
	if w.proto == 3 {
		w.number(kind, int64(n))
		return
	}
	w.number('*', int64(flat))
}

// Bool writes a truth value. In RESP2 it is 1 or 0.
func (w *Writer) Bool(v bool) {
	switch {
	case w.proto == 3 && v:
		w.line('#', "t")
	case w.proto == 3:
		w.line('#', "f")
	case v:
		w.Int(1)
	default:
		w.Int(0)
	}
}

// Double writes a floating-point number with the 17 digits that tell every value apart. In RESP2 it is a string.
func (w *Writer) Double(v float64) {
	var a [40]byte
	b := a[:0]
	switch {
	case math.IsInf(v, 1):
		b = append(b, "inf"...)
	case math.IsInf(v, -1):
		b = append(b, "-inf"...)
	case math.IsNaN(v):
		b = append(b, "nan"...)
	default:
		b = strconv.AppendFloat(b, v, 'g', 17, 64)
	}
	if w.proto == 3 {
		w.line(',', string(b))
		return
	}
	w.Bulk(b)
}

// Verbatim writes text of a format of three letters, "txt" or "mkd". In RESP2 it is a string.
func (w *Writer) Verbatim(format, s string) {
	if w.proto != 3 {
		w.BulkString(s)
		return
	}
	if !w.room(len(s) + lineRoom) {
		return
	}
	w.number('=', int64(len(s)+4))
	w.buf = append(w.buf, format[:3]...)
	w.buf = append(w.buf, ':')
	w.buf = append(w.buf, s...)
	w.buf = append(w.buf, '\r', '\n')
}

// InsertArray puts the header of an array of n replies before what was written since the length was at: for replies whose
// number is known only afterwards.
func (w *Writer) InsertArray(at, n int) {
	var head [lineRoom]byte
	w.insert(at, arrayHeader(head[:0], n))
}

// InsertScan makes what was written since at, n strings, the answer of a SCAN.
func (w *Writer) InsertScan(at int, cursor uint64, n int) {
	var digits [20]byte
	d := strconv.AppendUint(digits[:0], cursor, 10)
	var a [3 * lineRoom]byte
	head := append(arrayHeader(a[:0], 2), '$')
	head = strconv.AppendInt(head, int64(len(d)), 10)
	head = append(append(append(head, '\r', '\n'), d...), '\r', '\n')
	w.insert(at, arrayHeader(head, n))
}

func arrayHeader(b []byte, n int) []byte {
	b = strconv.AppendInt(append(b, '*'), int64(n), 10)
	return append(b, '\r', '\n')
}

func (w *Writer) insert(at int, head []byte) {
	if w.room(len(head)) {
		w.buf = slices.Insert(w.buf, at, head...)
	}
}
