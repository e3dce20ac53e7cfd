// A preview of a board: our JSON and Prometheus' answers, drawn with Grafana's own components where they are published.
// Not Grafana: state timelines, marks and overrides' registry are this page's; the rest is @grafana/ui and @grafana/data.
import {
  applyFieldOverrides, createTheme, dateTime, type DataFrame, type FieldConfigSource, FieldType, getDisplayProcessor,
  getFieldDisplayValues, Registry, standardTransformers, standardTransformersRegistry, ThemeContext, toDataFrame,
  transformDataFrame,
} from '@grafana/data';
import { initPluginTranslations } from '@grafana/i18n';
import { BigValue, GlobalStyles, PanelChrome, PortalContainer, Table, TimeSeries, VizLegend } from '@grafana/ui';
import { createRoot } from 'react-dom/client';
import { firstValueFrom } from 'rxjs';

const theme = createTheme({ colors: { mode: 'dark' } });
const GAP = 8, ROW = 30, PAD = 16;
type Json = any;

const given: Json = await (await fetch('given.json')).json();
const from = given.range[0] * 1000, to = given.range[1] * 1000;
const range = { from: dateTime(from), to: dateTime(to), raw: { from: dateTime(from), to: dateTime(to) } };
const filled = (text: string) => Object.entries(given.variables)
  .reduce((so, [name, value]) => so.replaceAll(name, String(value)), text ?? '');
const legend = (format: string, labels: Json) => format.replace(/\{\{(\w+)\}\}/g, (_, name) => labels[name] ?? '').trim();

// Every property that our boards set, by its id: enough for Grafana's own applyFieldOverrides.
const STANDARD = ['unit', 'min', 'max', 'decimals', 'displayName', 'noValue', 'thresholds', 'mappings', 'color'];
const registry: Json = new Registry(() => [
  ...STANDARD.map((path) => item(path, path, false)),
  ...[...new Set<string>(given.board.panels.flatMap(customOf))].map((path) => item(`custom.${path}`, path, true)),
]);
function item(id: string, path: string, isCustom: boolean): Json {
  const same = (value: unknown) => value;
  return { id, path, isCustom, name: id, description: '', settings: {}, process: same, shouldApply: () => true };
}
function customOf(panel: Json): string[] {
  const ids = panel.fieldConfig.overrides.flatMap((each: Json) => each.properties.map((one: Json) => one.id));
  const own = ids.filter((id: string) => id.startsWith('custom.')).map((id: string) => id.slice('custom.'.length));
  return [...Object.keys(panel.fieldConfig.defaults.custom ?? {}), ...own];
}

const numbers = (points: Json[]) => points.map(([, value]) => Number(value));
const times = (points: Json[]) => points.map(([at]) => at * 1000);

function framesOf(panel: Json): DataFrame[] {
  return panel.targets.flatMap((target: Json) => {
    const { result, step } = given.answers[panel.id][target.refId];
    if (target.format === 'table') {
      return result.length ? [tableOf(target, result)] : [];
    }
    return result.map((series: Json) => {
      const points = series.values ?? [series.value];
      const named = legend(target.legendFormat, series.metric);
      return toDataFrame({
        refId: target.refId,
        fields: [
          { name: 'Time', type: FieldType.time, values: times(points), config: { interval: step * 1000 } },
          {
            name: 'Value', type: FieldType.number, values: numbers(points), labels: series.metric,
            config: { displayNameFromDS: named },
          },
        ],
      });
    });
  });
}
function tableOf(target: Json, result: Json[]): DataFrame {
  const labels = [...new Set(result.flatMap((series) => Object.keys(series.metric)))].sort();
  return toDataFrame({
    refId: target.refId,
    fields: [
      { name: 'Time', type: FieldType.time, values: result.map((series) => series.value[0] * 1000) },
      ...labels.map((name) => ({ name, type: FieldType.string, values: result.map((each) => each.metric[name]) })),
      { name: `Value #${target.refId}`, type: FieldType.number, values: result.map((each) => Number(each.value[1])) },
    ],
  });
}

const dressed = (data: DataFrame[], fieldConfig: FieldConfigSource) => applyFieldOverrides({
  data, fieldConfig, fieldConfigRegistry: registry, replaceVariables: filled, theme, timeZone: 'utc',
});

type Size = { panel: Json; frames: DataFrame[]; width: number; height: number };

function Lines({ panel, frames, width, height }: Size) {
  return (
    <TimeSeries frames={frames} width={width} height={height} timeRange={range} timeZone="utc" legend={panel.options.legend}
      options={panel.options}>
      {(builder) => { withMarks(builder); return null; }}
    </TimeSeries>
  );
}
const marked = new WeakSet();
function withMarks(builder: Json) {
  if (marked.has(builder)) {
    return;
  }
  marked.add(builder);
  builder.addHook('draw', (plot: Json) => given.marks.forEach((mark: Json) => drawMark(plot, mark)));
}
function drawMark(plot: Json, { colour, spans }: Json) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.strokeStyle = ctx.fillStyle = theme.visualization.getColorByName(colour);
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([5, 5]);
  for (const [start, end] of spans) {
    const [left, right] = [start, end].map((at) => plot.valToPos(at * 1000, 'x', true));
    ctx.globalAlpha = 0.1;
    ctx.fillRect(left, bbox.top, right - left, bbox.height);
    ctx.globalAlpha = 1;
    for (const at of new Set([left, right])) {
      ctx.beginPath();
      ctx.moveTo(at, bbox.top);
      ctx.lineTo(at, bbox.top + bbox.height);
      ctx.stroke();
    }
    ctx.fillRect(left - 3, bbox.top + bbox.height, Math.max(6, right - left), 4 * devicePixelRatio);
  }
  ctx.restore();
}

function Number_({ panel, frames, width, height }: Size) {
  const { fieldConfig, options } = panel;
  const [shown] = getFieldDisplayValues({
    data: frames, fieldConfig, reduceOptions: options.reduceOptions, replaceVariables: filled, theme, timeZone: 'utc',
  });
  return (
    <BigValue width={width} height={height} theme={theme} value={shown.display} colorMode={options.colorMode}
      graphMode={options.graphMode} justifyMode={options.justifyMode} textMode={options.textMode} count={1} />
  );
}

// The state timeline is no published component: rows of states in the colours that Grafana's display processor gives.
const NAMES_WIDTH = 230, AXIS = 24, LEGEND = 26;
function States({ panel, frames, width, height }: Size) {
  const rows = frames.map(rowOf), place = width - NAMES_WIDTH;
  const tall = (height - AXIS - LEGEND) / rows.length;
  const ticks = hours();
  const words = [...new Map(rows.flatMap((row) => row.spans).map((each) => [each.text, each.color]))];
  return (
    <div style={{ position: 'relative', width, height, ...theme.typography.bodySmall }}>
      {rows.map((row, number) => (
        <div key={row.name} style={{ position: 'absolute', top: number * tall, height: tall, width }}>
          <div style={{ width: NAMES_WIDTH - 8, textAlign: 'right', lineHeight: `${tall}px`, whiteSpace: 'nowrap',
            overflow: 'hidden', textOverflow: 'ellipsis' }}>{row.name}</div>
          {row.spans.map((each) => (
            <div key={each.start} style={{ position: 'absolute', top: tall * 0.05, height: tall * 0.9, background: each.color,
              opacity: (panel.fieldConfig.defaults.custom.fillOpacity ?? 70) / 100,
              left: NAMES_WIDTH + ((each.start - from) / (to - from)) * place,
              width: ((each.end - each.start) / (to - from)) * place }} />
          ))}
        </div>
      ))}
      {ticks.map((at) => (
        <div key={at} style={{ position: 'absolute', top: height - AXIS - LEGEND + 4, color: theme.colors.text.secondary,
          left: NAMES_WIDTH + ((at - from) / (to - from)) * place - 18 }}>{new Date(at).toISOString().slice(11, 16)}</div>
      ))}
      <div style={{ position: 'absolute', top: height - LEGEND, width }}>
        <VizLegend placement="bottom" displayMode={'list' as Json}
          items={words.map(([label, color]) => ({ label, color, yAxis: 1 }))} />
      </div>
    </div>
  );
}
function hours() {
  const hour = 3_600_000, first = Math.ceil(from / hour) * hour;
  return Array.from({ length: Math.floor((to - first) / hour) + 1 }, (_, number) => first + number * hour);
}
function rowOf(frame: DataFrame) {
  const [time, value] = frame.fields;
  const say = getDisplayProcessor({ field: value, theme });
  const step = Number(time.config.interval), spans: Json[] = [];
  time.values.forEach((at: number, index: number) => {
    const { text, color } = say(value.values[index]), last = spans.at(-1);
    if (last && last.text === text && at - last.end < step * 1.5) {
      last.end = at;
    } else {
      spans.push({ start: at, end: at, text, color });
    }
  });
  return { name: value.config.displayNameFromDS ?? '', spans };
}

function Rows({ panel, frames, width, height }: Size) {
  return (
    <Table data={frames[0]} width={width} height={height} initialSortBy={panel.options.sortBy}
      columnMinWidth={panel.fieldConfig.defaults.custom.minWidth}
      cellHeight={panel.options.cellHeight} />
  );
}

const DRAWN: Record<string, (size: Size) => Json> = {
  stat: Number_, timeseries: Lines, 'state-timeline': States, table: Rows,
};

async function prepared(panel: Json) {
  const frames = framesOf(panel);
  if (!panel.transformations) {
    return dressed(frames, panel.fieldConfig);
  }
  return dressed(await firstValueFrom(transformDataFrame(panel.transformations, frames)), panel.fieldConfig);
}

function Panel({ panel, frames, unit }: { panel: Json; frames: DataFrame[]; unit: number }) {
  const { x, y, w, h } = panel.gridPos, Drawn = DRAWN[panel.type];
  const width = w * unit - GAP, height = h * (ROW + GAP) - GAP;
  const isEmpty = panel.type !== 'stat' && frames.every((frame) => frame.length === 0);
  return (
    <div style={{ position: 'absolute', left: x * unit, top: y * (ROW + GAP), width, height }}>
      <PanelChrome title={filled(panel.title)} description={panel.description} width={width} height={height}
        padding={panel.type === 'table' ? 'none' : 'md'}>
        {(innerWidth, innerHeight) => isEmpty
          ? <div className="empty" style={{ padding: 40 }}>{panel.fieldConfig.defaults.noValue}</div>
          : <Drawn panel={panel} frames={frames} width={innerWidth} height={innerHeight} />}
      </PanelChrome>
    </div>
  );
}

function Board({ prepared: all }: { prepared: DataFrame[][] }) {
  const { title, panels } = given.board, unit = (document.documentElement.clientWidth - 2 * PAD + GAP) / 24;
  const rows = Math.max(...panels.map(({ gridPos }: Json) => gridPos.y + gridPos.h));
  const shown = `${new Date(from).toISOString().slice(0, 16).replace('T', ' ')} to ${new Date(to).toISOString().slice(11, 16)} UTC`;
  return (
    <div style={{ padding: PAD }}>
      <div style={{ display: 'flex', justifyContent: 'space-between', alignItems: 'baseline', paddingBottom: GAP }}>
        <h1 style={{ fontSize: 18, margin: 0 }}>{title}</h1>
        <span style={{ color: theme.colors.text.secondary, fontSize: 12 }}>
          {shown}. Preview with @grafana/ui {given.version} of a simulated fleet; not Grafana itself.
        </span>
      </div>
      <div style={{ position: 'relative', height: rows * (ROW + GAP) - GAP }}>
        {panels.map((panel: Json, number: number) => (
          <Panel key={panel.id} panel={panel} frames={all[number]} unit={unit} />
        ))}
      </div>
    </div>
  );
}

await initPluginTranslations('grafana-ui');
const { mergeTransformer, organizeFieldsTransformer } = standardTransformers;
standardTransformersRegistry.setInit(() => [mergeTransformer, organizeFieldsTransformer].map((transformation: Json) => ({
  id: transformation.id, name: transformation.name, transformation: async () => transformation, editor: () => null, imageDark: '', imageLight: '',
})));
const all = await Promise.all(given.board.panels.map(prepared));
document.body.style.background = theme.colors.background.canvas;
createRoot(document.getElementById('board')!).render(
  <ThemeContext.Provider value={theme}>
    <GlobalStyles />
    <PortalContainer />
    <Board prepared={all} />
  </ThemeContext.Provider>,
);
