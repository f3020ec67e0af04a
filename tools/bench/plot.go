package main

import (
	"fmt"
	"html"
	"io"
	"math"
)

// curveLine is one line of a plot.
type curveLine struct {
	name   string
	dashed bool
	color  int
	x, y   []float64
}

// plotCurves draws throughput against latency as SVG: p99 as lines, p50 dashed, both axes logarithmic.
func (r *results) plotCurves(w io.Writer) error {
	var lines []curveLine
	at := map[string]int{}
	for _, o := range r.Open {
		i, ok := at[o.System]
		if !ok {
			i = len(lines)
			at[o.System] = i
			color := len(at) - 1
			lines = append(lines, curveLine{name: o.System + ", p99", color: color}, curveLine{name: o.System + ", p50", color: color, dashed: true})
		}
		l := o.line()
		for n, of := range []func(sample) float64{func(s sample) float64 { return float64(s.P99) / 1e6 }, func(s sample) float64 { return float64(s.P50) / 1e6 }} {
			lines[i+n].x, lines[i+n].y = append(lines[i+n].x, l.perSecond()), append(lines[i+n].y, l.median(of))
		}
	}
	return plot(w, "durable SET, open loop", "answered requests/s", "latency, ms", lines)
}

const (
	plotWidth, plotHeight         = 900.0, 520.0
	plotLeft, plotRight           = 70.0, 220.0
	plotTop, plotBottom           = 40.0, 50.0
	plotInnerWidth, plotInnerHigh = plotWidth - plotLeft - plotRight, plotHeight - plotTop - plotBottom
)

var plotColors = []string{"#1b6ac9", "#c9371b", "#2a8f3c", "#8a4fc0", "#b8860b", "#444444", "#008b8b", "#c71585"}

// axis maps values to a range of the picture, logarithmically.
type axis struct{ lo, hi, from, to float64 }

func newAxis(values []float64, from, to float64) axis {
	a := axis{lo: math.Inf(1), hi: 0, from: from, to: to}
	for _, v := range values {
		if v > 0 {
			a.lo, a.hi = min(a.lo, v), max(a.hi, v)
		}
	}
	if a.hi == 0 {
		a.lo, a.hi = 1, 10
	}
	a.lo, a.hi = a.lo/1.2, a.hi*1.2
	return a
}

func (a axis) at(v float64) float64 {
	return a.from + (a.to-a.from)*math.Log(v/a.lo)/math.Log(a.hi/a.lo)
}

// marks are 1, 2 and 5 of each power of ten.
func (a axis) marks() []float64 {
	var out []float64
	for e := math.Floor(math.Log10(a.lo)); e <= math.Ceil(math.Log10(a.hi)); e++ {
		for _, m := range []float64{1, 2, 5} {
			if v := m * math.Pow(10, e); v >= a.lo && v <= a.hi {
				out = append(out, v)
			}
		}
	}
	return out
}

func plot(w io.Writer, head, xName, yName string, lines []curveLine) error {
	p := &svg{w: w}
	p.f(`<svg xmlns="http://www.w3.org/2000/svg" width="%g" height="%g" font-family="sans-serif" font-size="12">`, plotWidth, plotHeight)
	p.f(`<rect width="100%%" height="100%%" fill="white"/>`)
	p.text(plotLeft, 22, "start", head)
	var xs, ys []float64
	for _, l := range lines {
		xs, ys = append(xs, l.x...), append(ys, l.y...)
	}
	x, y := newAxis(xs, plotLeft, plotLeft+plotInnerWidth), newAxis(ys, plotTop+plotInnerHigh, plotTop)
	for _, v := range x.marks() {
		p.line(x.at(v), plotTop, x.at(v), plotTop+plotInnerHigh)
		p.text(x.at(v), plotTop+plotInnerHigh+18, "middle", figure(v))
	}
	for _, v := range y.marks() {
		p.line(plotLeft, y.at(v), plotLeft+plotInnerWidth, y.at(v))
		p.text(plotLeft-6, y.at(v)+4, "end", figure(v))
	}
	p.text(plotLeft+plotInnerWidth/2, plotHeight-10, "middle", xName)
	p.f(`<text x="18" y="%g" text-anchor="middle" transform="rotate(-90 18 %g)">%s</text>`, plotTop+plotInnerHigh/2, plotTop+plotInnerHigh/2, html.EscapeString(yName))
	for i, l := range lines {
		p.curve(l, x, y, plotTop+20*float64(i)+10)
	}
	p.f(`</svg>`)
	return p.err
}

// svg writes elements and keeps the first error.
type svg struct {
	w   io.Writer
	err error
}

func (p *svg) f(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

func (p *svg) text(x, y float64, anchor, s string) {
	p.f(`<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`, x, y, anchor, html.EscapeString(s))
}

func (p *svg) line(x1, y1, x2, y2 float64) {
	p.f(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#ddd"/>`, x1, y1, x2, y2)
}

// curve draws one line and its name in the legend.
func (p *svg) curve(l curveLine, x, y axis, legend float64) {
	color, dash := plotColors[l.color%len(plotColors)], ""
	if l.dashed {
		dash = ` stroke-dasharray="5 4"`
	}
	points := ""
	for i := range l.x {
		if l.x[i] > 0 && l.y[i] > 0 {
			points += fmt.Sprintf("%.1f,%.1f ", x.at(l.x[i]), y.at(l.y[i]))
			p.f(`<circle cx="%.1f" cy="%.1f" r="2.5" fill="%s"/>`, x.at(l.x[i]), y.at(l.y[i]), color)
		}
	}
	p.f(`<polyline points="%s" fill="none" stroke="%s" stroke-width="1.5"%s/>`, points, color, dash)
	at := plotLeft + plotInnerWidth + 12
	p.f(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-width="1.5"%s/>`, at, legend, at+24, legend, color, dash)
	p.text(at+30, legend+4, "start", l.name)
}
