// Money as people write and read it. On the wire it is whole cents and a currency.

/** 123450 → "€1,234.50"; nothing → null. */
export function money(cents, currency = "EUR") {
  if (cents === null || cents === undefined) return null;
  const digits = cents % 100 ? 2 : 0;
  const how = { style: "currency", currency, minimumFractionDigits: digits, maximumFractionDigits: 2 };
  try {
    return new Intl.NumberFormat([], how).format(cents / 100);
  } catch {
    return `${(cents / 100).toFixed(2)} ${currency}`;
  }
}

/** "1 234,50" → 123450; an empty text → null. Throws with a sentence where it is no amount. */
export function cents(text) {
  const plain = text.replace(/[\s  ’']/g, "");
  if (!plain) return null;
  const found = /^(\d{1,9})(?:[.,](\d{1,2}))?$/.exec(plain);
  if (!found) throw new Error(`“${text.trim()}” is no amount; write it as 120 or 99.50.`);
  return Number(found[1]) * 100 + Number((found[2] || "").padEnd(2, "0"));
}

/** The reverse of `cents`, for fields: 9950 → "99.50". */
export function amount(value) {
  if (value === null || value === undefined) return "";
  return value % 100 ? (value / 100).toFixed(2) : String(value / 100);
}
