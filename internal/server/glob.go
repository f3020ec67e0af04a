package server

// globMatch matches like Redis' stringmatchlen: * ? [set] [^set] [a-b] and \ before a character to take as it is. An
// unclosed set ends with the pattern.
//
// Each '*' is tried only at the places from the previous '*' on, never again at earlier ones: a pattern of many stars costs
// at most len(pattern) × len(s) steps instead of an exponential number, with the same result.
func globMatch(pattern, s []byte, fold bool) bool {
	if len(s) == 0 { // only the bare star matches nothing, oddly
		return len(pattern) == 0 || string(pattern) == "*"
	}
	p, i := 0, 0
	star, mark := -1, 0 // where to resume when what follows the last '*' does not match
	for {
		if p < len(pattern) && pattern[p] == '*' {
			for p < len(pattern) && pattern[p] == '*' {
				p++
			}
			if p == len(pattern) {
				return true
			}
			star, mark = p, i
			continue
		}
		if i == len(s) {
			return p == len(pattern)
		}
		if p < len(pattern) {
			if next, ok := matchOne(pattern, p, s[i], fold); ok {
				p = next
				i++
				continue
			}
		}
		if star < 0 {
			return false
		}
		mark++
		p, i = star, mark
	}
}

// matchOne matches c with the element at pattern[p], which is not '*', and returns the index after that element.
func matchOne(pattern []byte, p int, c byte, fold bool) (int, bool) {
	switch pattern[p] {
	case '?':
		return p + 1, true
	case '[':
		return matchSet(pattern, p+1, c, fold)
	case '\\':
		if p+1 < len(pattern) {
			p++
		}
	}
	return p + 1, lower(pattern[p], fold) == lower(c, fold)
}

// matchSet matches c with the set whose first element is at pattern[p].
func matchSet(pattern []byte, p int, c byte, fold bool) (int, bool) {
	c = lower(c, fold)
	not := p < len(pattern) && pattern[p] == '^'
	if not {
		p++
	}
	match := false
	for ; p < len(pattern); p++ {
		switch {
		case pattern[p] == '\\' && p+1 < len(pattern):
			p++
			match = match || pattern[p] == c
		case pattern[p] == ']':
			return p + 1, match != not
		case p+2 < len(pattern) && pattern[p+1] == '-':
			match = match || inRange(pattern[p], pattern[p+2], c, fold)
			p += 2
		default:
			match = match || lower(pattern[p], fold) == c
		}
	}
	return p, match != not
}

// inRange compares as signed bytes, because Redis' char is signed on most machines.
func inRange(lo, hi, c byte, fold bool) bool {
	if int8(lo) > int8(hi) {
		lo, hi = hi, lo
	}
	return int8(lower(lo, fold)) <= int8(c) && int8(c) <= int8(lower(hi, fold))
}

func lower(c byte, fold bool) byte {
	if fold && 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// literalPrefix is what every match of the pattern begins with.
func literalPrefix(pattern []byte) []byte {
	for i, c := range pattern {
		switch c {
		case '*', '?', '[', '\\':
			return pattern[:i]
		}
	}
	return pattern
}

// Match reports whether key is like pattern, as KEYS, SCAN and PSUBSCRIBE understand it.
func Match(pattern, key []byte) bool { return globMatch(pattern, key, false) }
