// What the boards are made of, in Grafana's own words: `npm run schema` makes boards.schema.json of it.
import type * as stat from '@grafana/schema/dist/types/raw/composable/stat/panelcfg/x/types.gen';
import type * as stateTimeline from '@grafana/schema/dist/types/raw/composable/statetimeline/panelcfg/x/types.gen';
import type * as table from '@grafana/schema/dist/types/raw/composable/table/panelcfg/x/types.gen';
import type * as timeSeries from '@grafana/schema/dist/types/raw/composable/timeseries/panelcfg/x/types.gen';
import type { Dashboard } from '@grafana/schema/dist/types/raw/dashboard/x/types.gen';

export interface Boards {
  dashboard: Dashboard;
  panels: {
    stat: { options: stat.Options; custom: Record<string, never> };
    'state-timeline': { options: stateTimeline.Options; custom: stateTimeline.FieldConfig };
    table: { options: table.Options; custom: table.FieldConfig };
    timeseries: { options: timeSeries.Options; custom: timeSeries.FieldConfig };
  };
}
