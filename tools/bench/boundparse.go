package main

import (
	"bufio"
	"io"
)

// readArgs reads one command of up to three arguments into args, whose memory it uses again; a line that begins with a letter is a command by itself.
func readArgs(in *bufio.Reader, args *[3][]byte) (int, error) {
	n, err := readNumber(in, '*', &args[0])
	if err != nil || n == 0 {
		return 1, err
	}
	if n > len(args) {
		return 0, errReply
	}
	for i := range n {
		size, err := readNumber(in, '$', nil)
		if err != nil {
			return 0, err
		}
		if cap(args[i]) < size+2 {
			args[i] = make([]byte, size+2)
		}
		args[i] = args[i][:size+2]
		if _, err := io.ReadFull(in, args[i]); err != nil {
			return 0, err
		}
		args[i] = args[i][:size]
	}
	return n, nil
}

// readNumber reads a line of a sign and a number; another line goes to inline and counts as 0.
func readNumber(in *bufio.Reader, sign byte, inline *[]byte) (int, error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if line[0] != sign {
		if inline == nil || len(line) < 2 {
			return 0, errReply
		}
		*inline = append((*inline)[:0], line[:len(line)-2]...)
		return 0, nil
	}
	n := 0
	for _, d := range line[1 : len(line)-2] {
		n = n*10 + int(d-'0')
	}
	if n < 0 || n > 1<<30 {
		return 0, errReply
	}
	return n, nil
}
