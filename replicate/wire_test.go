package replicate

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"repld/wal"
)

// loopLink reads what is in b and never writes.
func loopLink(b []byte) *link {
	return &link{Conn: readConn{Reader: bytes.NewReader(b)}, idle: time.Second, write: time.Second}
}

type readConn struct {
	io.Reader
	net.Conn
}

func (c readConn) Read(b []byte) (int, error)     { return c.Reader.Read(b) }
func (readConn) SetDeadline(time.Time) error      { return nil }
func (readConn) SetReadDeadline(time.Time) error  { return nil }
func (readConn) SetWriteDeadline(time.Time) error { return nil }

func TestHotMessagesRoundTrip(t *testing.T) {
	h := heartbeat{Epoch: 3, Committed: 1 << 40, End: 1<<40 + 5, Wall: time.Unix(12, 345)}
	if got, err := decodeHeartbeat(h.encode(nil)); err != nil || got != h {
		t.Fatalf("%+v, %v", got, err)
	}
	a := ack{Epoch: 3, Durable: 9, Applied: 8, Sync: 2, Voter: true}
	if got, err := decodeAck(a.encode(nil)); err != nil || got != a {
		t.Fatalf("%+v, %v", got, err)
	}
}

func TestControlMessagesAreStrict(t *testing.T) {
	good, err := encodeJSON(hello{Group: "g", Node: "b", Purpose: Follow, End: wal.Position{Epoch: 1, LSN: 3, Hash: 7}})
	must(t, err)
	h, err := decodeJSON[hello](good)
	if err != nil || h.check() != nil || h.End.Hash != 7 {
		t.Fatalf("%+v, %v, %v", h, err, h.check())
	}
	for _, bad := range []string{"", "{", "[]", `{"lsn":1}{}`, `{"lsn":-1}`, `{"lsn":1,"more":2}`, `{"lsn":"1"}`} {
		if _, err := decodeJSON[probe]([]byte(bad)); !errors.Is(err, ErrProtocol) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, h := range []hello{
		{Group: "", Node: "b", Purpose: Follow},
		{Group: "g", Node: "b", Purpose: "else"},
		{Group: "g", Node: "b", Purpose: Follow, Start: wal.Position{LSN: 2}},
		{Group: "g", Node: "b\n", Purpose: Follow},
	} {
		if err := h.check(); !errors.Is(err, ErrProtocol) {
			t.Errorf("%+v: %v", h, err)
		}
	}
}

// W12: lengths are checked before anything is allocated, and memory follows the bytes that really come.
// Faults: W12 (lengths beyond the limits)
func TestLengthsAreLimits(t *testing.T) {
	header := func(t msgType, n uint32) []byte {
		return binary.LittleEndian.AppendUint32([]byte{byte(t)}, n)
	}
	for _, b := range [][]byte{
		header(msgHello, controlLimit+1), header(msgAck, ackSize+1), header(msgFrame, 1025), header(msgData, 1<<31), header(0, 0), header(200, 1),
	} {
		if _, _, err := newMsgReader(loopLink(b), 64, 1024).next(); !errors.Is(err, ErrProtocol) {
			t.Errorf("%x: %v", b, err)
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, _, err := newMsgReader(loopLink(append(header(msgFrame, 1<<30), 1, 2, 3)), 64, 1<<30).next()
	runtime.ReadMemStats(&after)
	if err != io.ErrUnexpectedEOF {
		t.Fatalf("cut message: %v", err)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 4*growth {
		t.Fatalf("%d bytes were allocated for 3 that came", n)
	}
}

func TestReaderKeepsMessagesApart(t *testing.T) {
	var b []byte
	big := bytes.Repeat([]byte("x"), 3<<20)
	for _, m := range [][]byte{[]byte("one"), big, []byte("three")} {
		b = append(binary.LittleEndian.AppendUint32(append(b, byte(msgFrame)), uint32(len(m))), m...)
	}
	r := newMsgReader(loopLink(b), 64, 4<<20)
	for _, want := range [][]byte{[]byte("one"), big, []byte("three")} {
		_, got, err := r.next()
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes, %v; want %d", len(got), err, len(want))
		}
	}
	if _, _, err := r.next(); err != io.EOF {
		t.Fatalf("at the end: %v", err)
	}
}

// W7: a message that drips in is given up, even if something comes all the time.
// Faults: W7 (a byte at a time)
func TestDrippingMessageIsGivenUp(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	go func() {
		_, _ = a.Write(binary.LittleEndian.AppendUint32([]byte{byte(msgFrame)}, 100))
		for {
			if _, err := a.Write([]byte{0}); err != nil {
				return
			}
			<-time.After(time.Millisecond)
		}
	}()
	r := newMsgReader(&link{Conn: b, idle: time.Second, write: 20 * time.Millisecond}, 64, 1024)
	_, _, err := r.next()
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Fatalf("got %v", err)
	}
}

func TestThrottle(t *testing.T) {
	now := time.Unix(0, 0)
	th := newThrottle(10 << 20)
	if d := th.take(1<<20, now); d != 0 {
		t.Fatalf("the bucket was full: %v", d)
	}
	if d := th.take(10<<20, now); d < 900*time.Millisecond || d > 1100*time.Millisecond {
		t.Fatalf("10 MiB at 10 MiB/s: %v", d)
	}
	if d := th.take(1, now.Add(2*time.Second)); d != 0 {
		t.Fatalf("after a rest: %v", d)
	}
	if d := newThrottle(0).take(1<<40, now); d != 0 {
		t.Fatalf("unlimited: %v", d)
	}
}

// FuzzMessages feeds bytes to the reader and to every decoder of what it yields.
func FuzzMessages(f *testing.F) {
	seed := func(t msgType, b []byte) {
		f.Add(append(binary.LittleEndian.AppendUint32([]byte{byte(t)}, uint32(len(b))), b...))
	}
	for t, v := range map[msgType]any{
		msgHello: hello{Group: "g", Node: "n", Purpose: Follow}, msgWelcome: welcome{Node: "a"}, msgReject: reject{Code: CodeStale},
		msgProbe: probe{LSN: 3}, msgProbed: probed{OK: true}, msgBegin: begin{}, msgReady: ready{}, msgRebuild: rebuild{},
		msgSync: syncNotice{}, msgWant: want{Files: []string{"x"}}, msgFile: file{Name: "x", Size: 1}, msgResumed: resumed{},
	} {
		b, _ := encodeJSON(v)
		seed(t, b)
	}
	seed(msgHeartbeat, heartbeat{}.encode(nil))
	seed(msgAck, ack{}.encode(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := newMsgReader(loopLink(b), 64, 1<<16)
		for {
			typ, p, err := r.next()
			if err != nil {
				return
			}
			decodeAny(typ, p)
		}
	})
}

func decodeAny(t msgType, p []byte) {
	switch t {
	case msgHello:
		if h, err := decodeJSON[hello](p); err == nil {
			_ = h.check()
		}
	case msgWelcome:
		if w, err := decodeJSON[welcome](p); err == nil {
			_ = w.check()
		}
	case msgReject:
		_, _ = decodeJSON[reject](p)
	case msgProbe:
		_, _ = decodeJSON[probe](p)
	case msgProbed:
		_, _ = decodeJSON[probed](p)
	case msgBegin:
		_, _ = decodeJSON[begin](p)
	case msgReady:
		_, _ = decodeJSON[ready](p)
	case msgRebuild:
		_, _ = decodeJSON[rebuild](p)
	case msgSync:
		_, _ = decodeJSON[syncNotice](p)
	case msgWant:
		_, _ = decodeJSON[want](p)
	case msgFile:
		_, _ = decodeJSON[file](p)
	case msgResumed:
		_, _ = decodeJSON[resumed](p)
	case msgHeartbeat:
		_, _ = decodeHeartbeat(p)
	case msgAck:
		_, _ = decodeAck(p)
	}
}

// FuzzPreface: no bytes make the preface reader panic or accept what its own writer would not send again.
func FuzzPreface(f *testing.F) {
	var b bytes.Buffer
	_ = writePreface(&b, preface{Version: 1, MinVersion: 1, Cluster: "c", Node: "a", To: "b", Incarnation: "00112233445566778899aabbccddeeff"})
	f.Add(b.Bytes())
	f.Add([]byte(prefaceMagic + "\x02\x00{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := readPreface(bytes.NewReader(b))
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := writePreface(&again, p); err != nil {
			return // JSON escapes may exceed the limit
		}
		if q, err := readPreface(&again); err != nil || q != p {
			t.Fatalf("%+v, %v; want %+v", q, err, p)
		}
	})
}

func FuzzStreamPreface(f *testing.F) {
	f.Add([]byte("S\x03log\x07default"))
	f.Fuzz(func(t *testing.T, b []byte) {
		kind, group, err := readStreamPreface(bytes.NewReader(b))
		if err != nil {
			return
		}
		var again bytes.Buffer
		must(t, writeStreamPreface(&again, kind, group))
		if !bytes.HasPrefix(b, again.Bytes()) {
			t.Fatalf("%q became %q", b, again.Bytes())
		}
	})
}
