package events

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/cespare/xxhash/v2"
)

// tailLen is the length of `,"sum":"0123456789abcdef"}`.
const tailLen = 26

// appendLine appends e as a line, its end included.
func appendLine(b []byte, e Event) ([]byte, error) {
	text, err := json.Marshal(e)
	if err != nil {
		return b, err
	}
	text = text[:len(text)-1] // the brace comes back after the sum
	b = append(b, text...)
	return fmt.Appendf(b, ",\"sum\":\"%016x\"}\n", xxhash.Sum64(text)), nil
}

// parseLine reads a line without its end. What is not exactly as appendLine wrote it is not ok.
func parseLine(line []byte) (e Event, ok bool) {
	if len(line) <= tailLen {
		return e, false
	}
	text, tail := line[:len(line)-tailLen], line[len(line)-tailLen:]
	if !bytes.Equal(tail, fmt.Appendf(nil, ",\"sum\":\"%016x\"}", xxhash.Sum64(text))) {
		return e, false
	}
	if err := json.Unmarshal(line, &e); err != nil || e.Seq == 0 {
		return e, false
	}
	return e, true
}

// parse returns the sound events of a file's content and how many lines were damaged.
func parse(content []byte) (all []Event, damaged int) {
	for len(content) > 0 {
		line, rest, _ := bytes.Cut(content, []byte("\n"))
		content = rest
		if len(line) == 0 {
			continue
		}
		e, ok := parseLine(line)
		if !ok {
			damaged++
			continue
		}
		all = append(all, e)
	}
	return all, damaged
}
