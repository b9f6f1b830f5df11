/** The ratios as an SVG: one panel for each profile, one group of bars for each metric, the kernel as the line at 1. Pure. */
import { BASE, type Metric, metricFacts } from '../vocabulary.ts';
import { formatRatio } from './statistics.ts';
import { type Cell, cellOf, type Summary } from './summary.ts';

const WIDTH = 960;
const LEFT = 290;
const RIGHT = 90;
const BAR = 11;
const GROUP_GAP = 9;
const PANEL_HEAD = 52;
const PANEL_FOOT = 34;
const COLOURS = ['#2166ac', '#b2182b', '#1b7837', '#e08214', '#762a83', '#878787'];
const TICKS = [0.001, 0.01, 0.03, 0.1, 0.3, 0.5, 1, 2, 3, 10, 30, 100, 1000];

export function renderPlot(summaries: readonly Summary[], title: string, subtitle = ''): string {
  const panels: string[] = [];
  let top = 50;
  for (const summary of summaries) {
    const panel = renderPanel(summary, top);
    panels.push(panel.svg);
    top += panel.height;
  }
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${top}" font-family="sans-serif" font-size="11">`,
    `<rect width="${WIDTH}" height="${top}" fill="white"/>`,
    text(12, 22, title, 'font-size="14" font-weight="bold"'),
    text(12, 38, subtitle, 'fill="#555"'),
    ...panels,
    '</svg>',
    '',
  ].join('\n');
}

function renderPanel(summary: Summary, top: number): { readonly svg: string; readonly height: number } {
  const systems = summary.systems.filter((system) => system !== BASE);
  const rows = summary.metrics.filter((metric) => systems.some((system) => shown(cellOf(summary, system, metric))));
  const scale = logScale(
    rows.flatMap((metric) =>
      systems.flatMap((system) => {
        const ratio = cellOf(summary, system, metric)?.ratio;
        return ratio !== undefined && ratio.min > 0 ? [ratio.min, ratio.max] : [];
      }),
    ),
  );
  const group = systems.length * BAR + GROUP_GAP;
  const bottom = top + PANEL_HEAD + rows.length * group;
  const parts = [
    text(
      12,
      top + 16,
      `profile ${summary.profile}: ratio to the kernel's vxlan device (logarithmic)`,
      'font-weight="bold"',
    ),
    ...legend(systems, top + 34),
    ...TICKS.filter((tick) => tick >= scale.min && tick <= scale.max).flatMap((tick) => [
      line(scale.at(tick), top + PANEL_HEAD - 6, scale.at(tick), bottom, tick === 1 ? '#000' : '#ddd'),
      text(scale.at(tick), bottom + 14, String(tick), 'text-anchor="middle" fill="#555"'),
    ]),
    ...rows.flatMap((metric, row) => {
      const y = top + PANEL_HEAD + row * group;
      return [
        text(LEFT - 8, y + group / 2, label(metric), 'text-anchor="end"'),
        ...systems.flatMap((system, index) => bar(cellOf(summary, system, metric), index, y + index * BAR, scale)),
      ];
    }),
  ];
  return { svg: parts.join('\n'), height: bottom + PANEL_FOOT - top };
}

function shown(cell: Cell | undefined): boolean {
  return cell?.ratio !== undefined && cell.ratio.median > 0;
}

function label(metric: Metric): string {
  const facts = metricFacts(metric);
  return `${facts.title} (${facts.better} is better)`;
}

interface Scale {
  readonly min: number;
  readonly max: number;
  at(value: number): number;
}

/** Holds 1, all values, and a little room. */
function logScale(values: readonly number[]): Scale {
  const min = Math.min(0.5, ...values) / 1.2;
  const max = Math.max(2, ...values) * 1.2;
  const width = WIDTH - LEFT - RIGHT;
  const at = (value: number): number => LEFT + (Math.log(value / min) / Math.log(max / min)) * width;
  return { min, max, at };
}

/** From the kernel's line to the median, with a whisker from the least to the greatest. */
function bar(cell: Cell | undefined, index: number, y: number, scale: Scale): readonly string[] {
  const ratio = cell?.ratio;
  if (ratio === undefined || ratio.median <= 0) return [];
  const [one, end] = [scale.at(1), scale.at(ratio.median)];
  const [x, width] = [Math.min(one, end), Math.max(Math.abs(end - one), 1)];
  const middle = y + BAR / 2;
  const whisker =
    ratio.min > 0 && ratio.count > 1 ? [line(scale.at(ratio.min), middle, scale.at(ratio.max), middle, '#333')] : [];
  const right = Math.max(x + width, ratio.count > 1 ? scale.at(ratio.max) : 0);
  return [
    `<rect x="${round(x)}" y="${round(y + 1)}" width="${round(width)}" height="${BAR - 2}" fill="${colour(index)}"/>`,
    ...whisker,
    text(right + 4, y + BAR - 2, formatRatio(ratio.median), 'font-size="9" fill="#333"'),
  ];
}

function legend(systems: readonly string[], y: number): readonly string[] {
  return systems.flatMap((system, index) => [
    `<rect x="${LEFT + index * 110}" y="${y - 9}" width="10" height="10" fill="${colour(index)}"/>`,
    text(LEFT + index * 110 + 14, y, system),
  ]);
}

function colour(index: number): string {
  return COLOURS[index % COLOURS.length] ?? '#000';
}

function line(x1: number, y1: number, x2: number, y2: number, stroke: string): string {
  return `<line x1="${round(x1)}" y1="${round(y1)}" x2="${round(x2)}" y2="${round(y2)}" stroke="${stroke}"/>`;
}

function text(x: number, y: number, content: string, attributes = ''): string {
  const safe = content.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
  return `<text x="${round(x)}" y="${round(y)}"${attributes === '' ? '' : ` ${attributes}`}>${safe}</text>`;
}

function round(value: number): string {
  return String(Math.round(value * 10) / 10);
}
