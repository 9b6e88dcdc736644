// Templates: htm bound to Preact. What stands in ${} becomes text, never markup.
import { h } from 'preact';
import htm from 'htm';

export const html = htm.bind(h);
