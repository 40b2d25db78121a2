package bench

import (
	"fmt"
	"image/color"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

// shades tell peers apart, in print too.
var shades = []color.Color{
	color.Gray{60}, color.Gray{150}, color.RGBA{200, 80, 60, 255}, color.RGBA{230, 150, 120, 255}, color.RGBA{20, 110, 180, 255},
	color.RGBA{90, 165, 215, 255}, color.RGBA{160, 205, 235, 255}, color.RGBA{120, 150, 70, 255}, color.RGBA{180, 200, 140, 255},
}

// Plot draws a workload's ratios to the limit, a group of bars for each way, into a PNG file. What was not measured has no bar.
func Plot(results []Result, workload, limit, file string) error {
	var ways, peers []string
	by := map[[2]string]Result{}
	for _, r := range results {
		if r.Workload != workload {
			continue
		}
		by[[2]string{r.Way, r.Peer}] = r
		if !slices.Contains(ways, r.Way) {
			ways = append(ways, r.Way)
		}
		if !slices.Contains(peers, r.Peer) {
			peers = append(peers, r.Peer)
		}
	}
	if len(ways) == 0 {
		return fmt.Errorf("plot %s: nothing was measured", workload)
	}
	p := plot.New()
	p.Title.Text = workload
	p.Y.Label.Text = "of the limit, in the same round"
	p.Y.Min = 0
	p.Legend.Top = true
	width := vg.Points(10)
	for i, peer := range peers {
		values := make(plotter.Values, len(ways))
		for j, w := range ways {
			values[j] = Ratio(by[[2]string{w, peer}], by[[2]string{w, limit}])
		}
		bars, err := plotter.NewBarChart(values, width)
		if err != nil {
			return fmt.Errorf("plot %s: %w", workload, err)
		}
		bars.Color, bars.LineStyle.Width = shades[i%len(shades)], 0
		bars.Offset = width * vg.Length(float64(i)-float64(len(peers)-1)/2)
		p.Add(bars)
		p.Legend.Add(peer, bars)
	}
	p.NominalX(ways...)
	p.X.Max = float64(len(ways)) + 0.2 // room for the legend
	if err := p.Save(24*vg.Centimeter, 11*vg.Centimeter, file); err != nil {
		return fmt.Errorf("plot %s: %w", workload, err)
	}
	return nil
}
