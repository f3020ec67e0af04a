package main

import "io"

type offer struct{}
type overload struct{}

func (r *results) printOpen(w io.Writer, markdown bool) {}
func (o *overload) print(w io.Writer, markdown bool)    {}
