package resp

import "bytes"

// inline reads a request that is a line of words, as a person types it and as health checks send it. Blank lines are no
// request. more tells that the line is not complete, or is wrong.
func (r *Reader) inline() (args [][]byte, more bool) {
	from := max(r.scan, r.pos)
	i := bytes.IndexByte(r.buf[from:], '\n')
	if i < 0 {
		r.scan = len(r.buf)
		if len(r.buf)-r.pos > r.limits.MaxInline {
			r.fail("too big inline request")
		}
		return nil, true
	}
	line := r.buf[r.pos : from+i]
	if len(line) > r.limits.MaxInline {
		r.fail("too big inline request")
		return nil, true
	}
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	first := len(r.args)
	if !r.split(line) {
		r.args = r.args[:first]
		r.fail("unbalanced quotes in request")
		return nil, true
	}
	r.pos = from + i + 1
	r.start = r.pos
	if len(r.args) == first {
		return nil, false
	}
	return r.args[first:len(r.args):len(r.args)], false
}

// split appends the words of a line to r.args. Quoted words are unescaped in place: that never makes them longer. False
// when quotes do not match.
func (r *Reader) split(line []byte) bool {
	for i := 0; ; {
		for i < len(line) && isSpace(line[i]) {
			i++
		}
		if i == len(line) {
			return true
		}
		word, next, ok := unquote(line, i)
		if !ok {
			return false
		}
		r.args = append(r.args, word)
		i = next
	}
}

// unquote reads one word at line[i:]. A word may have quoted parts; a closing quote must end the word.
func unquote(line []byte, i int) (word []byte, next int, ok bool) {
	out := i // the word is written to line[start:out], which never overtakes i
	start := i
	quote := byte(0)
	for ; i < len(line); i++ {
		c := line[i]
		switch {
		case quote == 0 && isSpace(c):
			return line[start:out:out], i, true
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
			continue
		case quote != 0 && c == quote:
			if i+1 < len(line) && !isSpace(line[i+1]) {
				return nil, 0, false
			}
			return line[start:out:out], i + 1, true
		case quote == '"' && c == '\\' && i+1 < len(line):
			c, i = escape(line, i)
		case quote == '\'' && c == '\\' && i+1 < len(line) && line[i+1] == '\'':
			c = '\''
			i++
		}
		line[out] = c
		out++
	}
	return line[start:out:out], i, quote == 0
}

// escape reads the escape at line[i], a backslash that is not the last byte, and returns the byte that it stands for and
// the index of its last byte.
func escape(line []byte, i int) (byte, int) {
	if line[i+1] == 'x' && i+3 < len(line) {
		hi, ok1 := hexDigit(line[i+2])
		lo, ok2 := hexDigit(line[i+3])
		if ok1 && ok2 {
			return hi<<4 | lo, i + 3
		}
	}
	switch c := line[i+1]; c {
	case 'n':
		return '\n', i + 1
	case 'r':
		return '\r', i + 1
	case 't':
		return '\t', i + 1
	case 'b':
		return '\b', i + 1
	case 'a':
		return '\a', i + 1
	default:
		return c, i + 1
	}
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

func isSpace(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }
