package difftest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// reply is one reply as it came, taken apart.
type reply struct {
	raw   []byte
	kind  byte
	line  string // after the kind, without line end
	items []reply
}

// readReply reads one reply. It believes what it reads: both servers are local and known.
func readReply(r *bufio.Reader) (reply, error) {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return reply{}, err
	}
	rep := reply{raw: line, kind: line[0], line: strings.TrimRight(string(line[1:]), "\r\n")}
	n, _ := strconv.Atoi(rep.line)
	switch rep.kind {
	case '$', '=':
		if n < 0 {
			return rep, nil
		}
		body := make([]byte, n+2)
		if _, err := io.ReadFull(r, body); err != nil {
			return reply{}, err
		}
		rep.raw = append(rep.raw, body...)
	case '%':
		n *= 2
		fallthrough
	case '*', '~', '>':
		for range n {
			item, err := readReply(r)
			if err != nil {
				return reply{}, err
			}
			rep.items = append(rep.items, item)
			rep.raw = append(rep.raw, item.raw...)
		}
	case '+', '-', ':', '_', '#', ',', '(':
	default:
		return reply{}, fmt.Errorf("reply of unknown kind: %q", line)
	}
	return rep, nil
}

// same compares two replies to a command as far as they can be equal.
func same(command string, a, b reply) bool {
	switch command {
	case "ttl", "expiretime":
		return near(a, b, 2)
	case "pttl", "pexpiretime":
		return near(a, b, 2000)
	case "randomkey", "hello":
		return a.kind == b.kind && (a.line == "-1") == (b.line == "-1")
	case "object": // IDLETIME
		return near(a, b, 100)
	case "client": // LIST and INFO describe connections
		if strings.HasPrefix(text(a), "id=") && strings.HasPrefix(text(b), "id=") {
			return a.kind == b.kind
		}
	case "command": // each server describes its own
		if len(a.items) > 50 && len(b.items) > 50 {
			return a.kind == b.kind
		}
	case "wait": // the number of standbys
		return a.kind == b.kind && (a.kind == ':' || bytes.Equal(a.raw, b.raw))
	case "role": // each has its own offset and standbys
		if len(a.items) == 3 && len(b.items) == 3 {
			return bytes.Equal(a.items[0].raw, b.items[0].raw) && a.items[1].kind == b.items[1].kind && a.items[2].kind == b.items[2].kind
		}
	case "keys":
		return a.kind == b.kind && sameItems(a.items, b.items)
	case "scan":
		if len(a.items) != 2 || len(b.items) != 2 {
			return bytes.Equal(a.raw, b.raw)
		}
		return bytes.Equal(a.items[0].raw, b.items[0].raw) && sameItems(a.items[1].items, b.items[1].items)
	}
	return bytes.Equal(a.raw, b.raw)
}

// text is the body of a string.
func text(r reply) string {
	_, body, _ := bytes.Cut(r.raw, []byte("\r\n"))
	return strings.TrimPrefix(string(body), "txt:")
}

// near allows integers to differ by the tolerance; not those that are answers of their own.
func near(a, b reply, tolerance int64) bool {
	x, err1 := strconv.ParseInt(a.line, 10, 64)
	y, err2 := strconv.ParseInt(b.line, 10, 64)
	if a.kind != ':' || b.kind != ':' || err1 != nil || err2 != nil || x < 0 || y < 0 {
		return bytes.Equal(a.raw, b.raw)
	}
	return x-y <= tolerance && y-x <= tolerance
}

func sameItems(a, b []reply) bool {
	sorted := func(list []reply) []string {
		var s []string
		for _, r := range list {
			s = append(s, string(r.raw))
		}
		slices.Sort(s)
		return s
	}
	return slices.Equal(sorted(a), sorted(b))
}

// sameExec compares what EXEC answers, given what was queued.
func sameExec(queued []string, a, b reply) bool {
	if a.kind != '*' || b.kind != '*' || len(a.items) != len(b.items) || len(a.items) != len(queued) {
		return bytes.Equal(a.raw, b.raw)
	}
	for i := range a.items {
		if !same(queued[i], a.items[i], b.items[i]) {
			return false
		}
	}
	return true
}
