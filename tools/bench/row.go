package main

import (
	"fmt"
	"strconv"
	"strings"
)

// Requests, as in the tables.
const (
	requestSet = "SET"
	requestGet = "GET"
)

// row is one kind of load, asked of every system.
type row struct {
	Request  string `json:"request"`
	Clients  int    `json:"clients"`
	Pipeline int    `json:"pipeline"` // requests that a client sends before it reads the answers
	Value    int    `json:"value_bytes"`
}

func (r row) get() bool { return r.Request == requestGet }

func (r row) String() string {
	s := "durable SET"
	if r.get() {
		s = "GET"
	}
	s += fmt.Sprintf(", %d clients", r.Clients)
	if r.Clients == 1 {
		s = strings.TrimSuffix(s, "s")
	}
	if r.Pipeline > 1 {
		s += fmt.Sprintf(" × pipeline %d", r.Pipeline)
	}
	return s + fmt.Sprintf(", %d B", r.Value)
}

// parseRows reads "set:64,set:64x16,set:64:1024,get:64": request, clients, x pipeline, : bytes of the value.
func parseRows(text string, value int) ([]row, error) {
	var out []row
	for _, s := range strings.Split(text, ",") {
		r, err := parseRow(s, value)
		if err != nil {
			return nil, fmt.Errorf("-rows: %q is not like set:64, set:64x16 or set:64:1024: %w", s, err)
		}
		out = append(out, r)
	}
	return out, nil
}

func parseRow(s string, value int) (row, error) {
	request, rest, _ := strings.Cut(s, ":")
	r := row{Request: strings.ToUpper(request), Pipeline: 1, Value: value}
	if r.Request != requestSet && r.Request != requestGet {
		return r, fmt.Errorf("request %q", request)
	}
	rest, size, sized := strings.Cut(rest, ":")
	clients, pipeline, piped := strings.Cut(rest, "x")
	var err error
	if r.Clients, err = positive(clients); err != nil {
		return r, err
	}
	if piped {
		if r.Pipeline, err = positive(pipeline); err != nil {
			return r, err
		}
	}
	if sized {
		r.Value, err = positive(size)
	}
	return r, err
}

func positive(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err == nil && n < 1 {
		err = fmt.Errorf("%d is not positive", n)
	}
	return n, err
}

// usualRows are those of the targets: SET and GET at every number of clients, a pipeline, a larger value.
func usualRows(clients []int, value int, more bool) []row {
	var out []row
	for _, request := range []string{requestSet, requestGet} {
		for _, n := range clients {
			out = append(out, row{request, n, 1, value})
		}
		if more {
			out = append(out, row{request, 64, 16, value})
		}
	}
	if more {
		out = append(out, row{requestSet, 64, 1, 1024})
	}
	return out
}
