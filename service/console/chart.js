// uPlot as a component: it follows its width, and light and dark.
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import uPlot from 'uplot';
import { html } from './html.js';

const dark = matchMedia('(prefers-color-scheme: dark)');

// `options` makes uPlot's from colours by name; it is asked again where `shape` changes. `label` tells the chart.
export function Chart({ label, height, data, shape, options }) {
  const place = useRef(null);
  const plot = useRef(null);
  const [scheme, setScheme] = useState(dark.matches);
  useEffect(() => {
    const changed = () => setScheme(dark.matches);
    dark.addEventListener('change', changed);
    return () => dark.removeEventListener('change', changed);
  }, []);
  useLayoutEffect(() => {
    const style = getComputedStyle(place.current);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    const axis = { stroke: colour('muted'), grid: { stroke: colour('line') }, ticks: { stroke: colour('line') } };
    const size = { width: place.current.clientWidth, height };
    plot.current = new uPlot({ ...size, ...options(colour, axis) }, data, place.current);
    const watch = new ResizeObserver(([entry]) => {
      plot.current.setSize({ width: Math.floor(entry.contentRect.width), height });
    });
    watch.observe(place.current);
    return () => {
      watch.disconnect();
      plot.current.destroy();
    };
  }, [scheme, shape, height]);
  useLayoutEffect(() => plot.current.setData(data), [data]);
  return html`<div class="chart" role="img" aria-label=${label} ref=${place}></div>`;
}
