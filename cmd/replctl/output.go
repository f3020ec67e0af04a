package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

const (
	formatTable = "table"
	formatJSON  = "json"
	formatYAML  = "yaml"
)

// emit writes v as JSON or YAML, or calls table.
func (a *app) emit(v any, table func(w io.Writer)) error {
	a.endBar()
	if a.format == formatTable {
		table(a.out)
		return nil
	}
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encode result: %w", err)
	}
	if a.format == formatYAML {
		if text, err = yamlOf(text); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintln(a.out, strings.TrimRight(string(text), "\n"))
	return err
}

// yamlOf turns JSON into YAML with the same names in the same order.
func yamlOf(text []byte) ([]byte, error) {
	var n yaml.Node
	if err := yaml.Unmarshal(text, &n); err != nil {
		return nil, fmt.Errorf("encode result: %w", err)
	}
	plain(&n)
	return yaml.Marshal(&n)
}

// plain forgets JSON's braces and quotes; the encoder quotes what needs it.
func plain(n *yaml.Node) {
	n.Style = 0
	for _, c := range n.Content {
		plain(c)
	}
}

// table writes rows in aligned columns, two blanks apart. Cells of columns whose heading begins with > are flush right.
func table(w io.Writer, head []string, rows [][]string) {
	right := make([]bool, len(head))
	width := make([]int, len(head))
	for i, h := range head {
		head[i], right[i] = strings.CutPrefix(h, ">")
		width[i] = utf8.RuneCountInString(head[i])
	}
	for _, r := range rows {
		for i, cell := range r {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	for _, r := range append([][]string{head}, rows...) {
		var b strings.Builder
		for i, cell := range r {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if right[i] {
				b.WriteString(pad + cell + "  ")
			} else {
				b.WriteString(cell + pad + "  ")
			}
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}

// bytesText returns n with a unit a person reads at a glance.
func bytesText(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	v, u := float64(n), 0
	for v >= 1024 && u < len(units)-1 {
		v, u = v/1024, u+1
	}
	if u == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[u])
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func plural(n uint64, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}
