// What the page shows, and what can be asked together.

const SESSION = ["source", "channel", "campaign", "country", "device", "browser", "os"];

export const METRICS = {
  visitors: { label: "Visitors", unit: "count", group: "visitors" },
  sessions: { label: "Sessions", unit: "count", group: "session" },
  orders: { label: "Orders", unit: "count", group: "event" },
  revenue: { label: "Revenue", unit: "money", group: "event" },
  conversion_rate: { label: "Conversion", unit: "ratio", group: "session" },
  page_views: { label: "Views", unit: "count", group: "event" },
  product_views: { label: "Views", unit: "count", group: "event" },
  units: { label: "Sold", unit: "count", group: "event" },
};

export const CARDS = ["visitors", "sessions", "orders", "revenue", "conversion_rate"];

export const DIMENSIONS = {
  page: "Page", product: "Product", source: "Source", channel: "Channel", campaign: "Campaign",
  country: "Country", device: "Device", browser: "Browser", os: "System",
};

// By sessions, which keep the source of their first event, while a purchase seldom happens on the
// page that a visitor came to; and sessions are at hand counted, while visitors by a dimension are
// counted from raw rows. Where sessions cannot be counted, visitors are.
const BY_SESSION = ["sessions", "conversion_rate"];

// Each panel: its tabs, each a dimension with the metrics of its columns; the first one sorts.
export const PANELS = [
  { title: "Pages", tabs: { page: ["visitors", "page_views"] } },
  {
    title: "Sources", tabs: {
      source: BY_SESSION, channel: BY_SESSION, campaign: BY_SESSION,
    },
  },
  { title: "Products", tabs: { product: ["revenue", "units", "product_views"] } },
  { title: "Countries", tabs: { country: ["sessions", "orders", "revenue"] } },
  {
    title: "Devices", tabs: {
      device: BY_SESSION, browser: BY_SESSION, os: BY_SESSION,
    },
  },
];

// Whether the server can count a metric by these dimensions: products are counted from the lines of
// events, and a session belongs to no single page.
export function goesWith(metric, dimensions) {
  if (dimensions.includes("product")) {
    return METRICS[metric].group === "event" && dimensions.every((name) => name === "product");
  }
  return METRICS[metric].group !== "session" || dimensions.every((name) => SESSION.includes(name));
}
