package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"repld/internal/kv"
)

// effect is what a record does to one user key. Rows of the expiry index and the key count follow from it and are left out.
type effect struct {
	Op        string `json:"op"` // set, del, clear
	Key       string `json:"key,omitempty"`
	KeyB64    []byte `json:"key_base64,omitempty"`
	Type      string `json:"type,omitempty"`
	Value     string `json:"value,omitempty"`
	ValueB64  []byte `json:"value_base64,omitempty"`
	ExpiresMs int64  `json:"expires_ms,omitempty"` // unix milliseconds
}

func effectOf(e kv.Effect) effect {
	out := effect{Op: e.Op.String(), ExpiresMs: e.ExpireAt}
	out.Key, out.KeyB64 = textOr64(e.Key)
	if e.Op == kv.OpSet {
		out.Type = e.Type.String()
		out.Value, out.ValueB64 = textOr64(e.Value)
	}
	return out
}

// textOr64 copies b as text if it is valid UTF-8, else as bytes.
func textOr64(b []byte) (string, []byte) {
	if utf8.Valid(b) {
		return string(b), nil
	}
	return "", append([]byte(nil), b...)
}

func (e effect) key() string {
	if e.KeyB64 != nil {
		return string(e.KeyB64)
	}
	return e.Key
}

func (e effect) value() string {
	if e.ValueB64 != nil {
		return string(e.ValueB64)
	}
	return e.Value
}

// text is the effect in one line, its value cut to width bytes.
func (e effect) text(width int) string {
	switch e.Op {
	case kv.OpClear.String():
		return "clear: all keys"
	case kv.OpDelete.String():
		return "del " + strconv.Quote(e.key())
	}
	v, more := e.value(), ""
	if len(v) > width {
		v, more = v[:width], fmt.Sprintf("… (%d bytes)", len(v))
	}
	line := fmt.Sprintf("set %s %s%s", strconv.Quote(e.key()), strconv.Quote(v), more)
	if e.ExpiresMs != 0 {
		line += " expires " + time.UnixMilli(e.ExpiresMs).UTC().Format(time.RFC3339)
	}
	return line
}

// emitLine writes v as one line of JSON, or one document of YAML.
func (a *app) emitLine(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode record: %w", err)
	}
	if a.format == formatYAML {
		if text, err = yamlOf(text); err != nil {
			return err
		}
		text = append([]byte("---\n"), text[:len(text)-1]...)
	}
	_, err = fmt.Fprintf(a.out, "%s\n", text)
	return err
}

// glob reports whether s is like pattern: * is any text, ? any byte, \ takes the next byte as it is. It takes at most len(pattern)·len(s) steps.
func glob(pattern, s string) bool {
	p, i := 0, 0
	star, mark := -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p+1 < len(pattern) && pattern[p] == '\\' && pattern[p+1] == s[i]:
			p, i = p+2, i+1
		case p < len(pattern) && pattern[p] != '\\' && (pattern[p] == '?' || pattern[p] == s[i]):
			p, i = p+1, i+1
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}
