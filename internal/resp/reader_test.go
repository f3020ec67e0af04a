package resp

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// read feeds the pieces and returns every command as a quoted line, and the error that ended the stream, if any.
func read(r *Reader, pieces ...string) (commands []string, err error) {
	for _, p := range pieces {
		for len(p) > 0 {
			n := copy(r.Space(), p)
			r.Advance(n)
			p = p[n:]
			for {
				args, e := r.Next()
				if e != nil {
					return commands, e
				}
				if args == nil {
					break
				}
				commands = append(commands, fmt.Sprintf("%q", args))
			}
		}
	}
	return commands, nil
}

func authenticated() *Reader {
	r := NewReader(Limits{})
	r.SetAuthenticated(true)
	return r
}

func TestReaderCommands(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"*1\r\n$4\r\nPING\r\n", `["PING"]`},
		{"*2\r\n$3\r\nGET\r\n$0\r\n\r\n", `["GET" ""]`},
		{"*2\r\n$3\r\nGET\r\n$4\r\na\r\nb\r\n*1\r\n$1\r\nX\r\n", `["GET" "a\r\nb"];["X"]`},
		{"*0\r\n*-1\r\n*-10\r\n\r\n\n   \r\nPING\r\n", `["PING"]`},
		{"PING\nECHO  hi \t there\r\n", `["PING"];["ECHO" "hi" "there"]`},
		{`SET k "a \"b\" \x41\n\r\t\b\a\z\xg1"` + "\r\n", `["SET" "k" "a \"b\" A\n\r\t\b\azxg1"]`},
		{`SET 'it\'s \n' "" ''` + "\r\n", `["SET" "it's \\n" "" ""]`},
		{`SET foo"bar" x` + "\r\n", `["SET" "foobar" "x"]`},
		{"*1\r\n$2\r\nabXX*1\r\n$1\r\nc\r\n", `["ab"];["c"]`}, // as in Redis, the end of an argument is not looked at
	} {
		got, err := read(authenticated(), c.in)
		if err != nil || strings.Join(got, ";") != c.want {
			t.Errorf("%q: got %s, error %v; want %s", c.in, strings.Join(got, ";"), err, c.want)
		}
	}
}

// Faults: R1 (malformed requests)
func TestReaderErrors(t *testing.T) {
	long := strings.Repeat("x", 64<<10+1)
	for _, c := range []struct{ in, want string }{
		{"*x\r\n", "invalid multibulk length"},
		{"*\r\n", "invalid multibulk length"},
		{"*01\r\n", "invalid multibulk length"},
		{"*+1\r\n", "invalid multibulk length"},
		{"*1048577\r\n", "invalid multibulk length"},
		{"*9000000000000000000\r\n", "invalid multibulk length"},
		{"*99999999999999999999\r\n", "invalid multibulk length"},
		{"*1\r\nfoo\r\n", "expected '$', got 'f'"},
		{"*1\r\n\r\n", "expected '$', got ' '"},
		{"*1\r\n$x\r\n", "invalid bulk length"},
		{"*1\r\n$-1\r\n", "invalid bulk length"},
		{"*1\r\n$536870913\r\n", "invalid bulk length"},
		{"*1\r\n$9223372036854775807\r\n..", "invalid bulk length"},
		{"*3\r\n$536870912\r\n", ""},
		{"*1" + long, "too big mbulk count string"},
		{"*1\r\n$" + long, "too big bulk count string"},
		{long, "too big inline request"},
		{long + "\r\n", "too big inline request"},
		{"a \"b\r\n", "unbalanced quotes in request"},
		{"a 'b\r\n", "unbalanced quotes in request"},
		{"a \"b\"c\r\n", "unbalanced quotes in request"},
	} {
		r := authenticated()
		_, err := read(r, c.in)
		text := ""
		if err != nil {
			text = strings.TrimPrefix(err.Error(), "Protocol error: ")
		}
		if text != c.want {
			t.Errorf("%.40q: got error %q, want %q", c.in, text, c.want)
		}
		if _, again := read(r, "PING\r\n"); err != nil && again != err {
			t.Errorf("%.40q: the error does not stay: %v", c.in, again)
		}
	}
}

func TestReaderBeforeAuthentication(t *testing.T) {
	for in, want := range map[string]string{
		"*11\r\n":           "unauthenticated multibulk length",
		"*2\r\n$16385\r\n":  "unauthenticated bulk length",
		"*10\r\n$16384\r\n": "",
	} {
		_, err := read(NewReader(Limits{}), in)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", in, err, want)
		}
	}
}

func TestReaderCommandsBeforeAnErrorAreReturned(t *testing.T) {
	got, err := read(authenticated(), "PING\r\n*1\r\n$1\r\na\r\n*x\r\n")
	if len(got) != 2 || err == nil {
		t.Fatalf("got %v, %v; want two commands and an error", got, err)
	}
}

func TestReaderRequestLimit(t *testing.T) {
	r := NewReader(Limits{MaxRequest: 4096})
	r.SetAuthenticated(true)
	_, err := read(r, "*3\r\n$2000\r\n"+strings.Repeat("x", 2000)+"\r\n$2000\r\n"+strings.Repeat("y", 2000)+"\r\n$2000\r\n")
	if err == nil || !strings.Contains(err.Error(), "too big request") {
		t.Fatalf("got %v, want the request limit", err)
	}
}

// Faults: R2 (giant lengths before few bytes)
func TestReaderHoldsNoMoreThanWasReceived(t *testing.T) { // FAULTS R2
	r := authenticated()
	if _, err := read(r, "*1048576\r\n$536870912\r\n"); err != nil {
		t.Fatal(err)
	}
	if c := cap(r.buf) + cap(r.spans)*8 + cap(r.args)*24; c > 8<<10 {
		t.Fatalf("%d bytes held for a declaration", c)
	}
	chunk := strings.Repeat("x", 10<<10)
	for received := 0; received < 4<<20; received += len(chunk) {
		if _, err := read(r, chunk); err != nil {
			t.Fatal(err)
		}
		if cap(r.buf) > 2*(received+len(chunk))+readBuffer+64 {
			t.Fatalf("%d bytes held after %d received", cap(r.buf), received+len(chunk))
		}
	}
}

func TestReaderGivesLargeBuffersBack(t *testing.T) {
	r := authenticated()
	if _, err := read(r, "*1\r\n$1000000\r\n"+strings.Repeat("x", 1000000)+"\r\n"); err != nil {
		t.Fatal(err)
	}
	if r.Release(); cap(r.buf) > 2*readBuffer {
		t.Fatalf("%d bytes kept", cap(r.buf))
	}
}

func TestReaderAllocates(t *testing.T) {
	r := authenticated()
	in := []byte(strings.Repeat("*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n", 16))
	n := testing.AllocsPerRun(100, func() {
		r.Feed(in)
		for {
			args, err := r.Next()
			if err != nil {
				t.Fatal(err)
			}
			if args == nil {
				return
			}
		}
	})
	if n > 0 {
		t.Fatalf("%v allocations for a pipeline of 16, want none", n)
	}
}

// FuzzReader: never panics; where the stream is split does not matter; memory is bounded by what was received.
func FuzzReader(f *testing.F) {
	for _, s := range []string{
		"*1\r\n$4\r\nPING\r\n", "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$2\r\n\r\n\r\n", "PING\r\nSET a \"b\\x00\"\r\n", "*0\r\n*-3\r\n\r\n",
		"*1\r\n$9223372036854775807\r\n..", "*9000000000000000000\r\n", "$\x00", "*2\r\n$1\r\na\r\n:1\r\n", "'a\\'b' \"\\xfg\\n\"x\n",
		"*3\r\r$1\r\r\r\r\r", strings.Repeat("a ", 300) + "\n",
	} {
		f.Add([]byte(s), uint16(3), true)
	}
	limits := Limits{MaxBulk: 4096, MaxArgs: 64, MaxInline: 256, MaxRequest: 8192}
	f.Fuzz(func(t *testing.T, in []byte, split uint16, authed bool) {
		whole := NewReader(limits)
		whole.SetAuthenticated(authed)
		want, wantErr := read(whole, string(in))

		step := int(split)%len2(in) + 1
		var pieces []string
		for rest := in; len(rest) > 0; rest = rest[min(step, len(rest)):] {
			pieces = append(pieces, string(rest[:min(step, len(rest))]))
		}
		parts := NewReader(limits)
		parts.SetAuthenticated(authed)
		got, gotErr := read(parts, pieces...)
		if strings.Join(got, "\n") != strings.Join(want, "\n") || fmt.Sprint(gotErr) != fmt.Sprint(wantErr) {
			t.Fatalf("split every %d bytes: %v, %v; whole: %v, %v", step, got, gotErr, want, wantErr)
		}
		for _, r := range []*Reader{whole, parts} {
			if cap(r.buf) > 2*len(in)+readBuffer+firstBuffer {
				t.Fatalf("%d bytes held for %d received", cap(r.buf), len(in))
			}
			if cap(r.args)+cap(r.spans) > 4*len(in)+1024 {
				t.Fatalf("%d argument slots held for %d bytes received", cap(r.args)+cap(r.spans), len(in))
			}
		}
	})
}

func len2(b []byte) int { return max(len(b), 1) }

// FuzzInline: a word quoted as Redis' own tools do comes back as it was.
func FuzzInline(f *testing.F) {
	f.Add([]byte("a\x00\"'\\ \n"))
	f.Fuzz(func(t *testing.T, word []byte) {
		var line bytes.Buffer
		line.WriteString(`X "`)
		for _, c := range word {
			fmt.Fprintf(&line, `\x%02x`, c)
		}
		line.WriteString("\"\r\n")
		if line.Len() > 64<<10 {
			return
		}
		r := authenticated()
		got, err := read(r, line.String())
		if want := fmt.Sprintf("%q", [][]byte{[]byte("X"), word}); err != nil || len(got) != 1 || got[0] != want {
			t.Fatalf("got %v, %v; want %s", got, err, want)
		}
	})
}

func TestParseInt(t *testing.T) {
	for in, want := range map[string]string{
		"0": "0", "-1": "-1", "9223372036854775807": "9223372036854775807", "-9223372036854775808": "-9223372036854775808",
		"": "no", "-": "no", "-0": "no", "00": "no", "+1": "no", " 1": "no", "1 ": "no", "9223372036854775808": "no",
		"-9223372036854775809": "no", "18446744073709551616": "no", "99999999999999999999": "no", "1e3": "no", "0x1": "no",
	} {
		got := "no"
		if v, ok := ParseInt([]byte(in)); ok {
			got = fmt.Sprint(v)
		}
		if got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}
